use std::future::Future;

use super::SourceError;

/// A list that was read to its end. Only [`read_to_end`] and readers in this folder that see the end make one, so that whoever holds it need
/// not ask whether the last page is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complete<T>(T);

impl<T> Complete<T> {
    /// The list.
    pub fn into_inner(self) -> T {
        self.0
    }

    /// The list, to look at.
    pub fn get(&self) -> &T {
        &self.0
    }

    /// A list whose reader has seen its end itself.
    pub(crate) fn proven(list: T) -> Self {
        Self(list)
    }

    /// What `make` draws from the list: as complete as the list.
    pub(super) fn derive<U>(&self, make: impl FnOnce(&T) -> U) -> Complete<U> {
        Complete(make(&self.0))
    }

    #[cfg(test)]
    pub(crate) fn of(list: T) -> Self {
        Self(list)
    }
}

/// One page of a list, and the token of the page after it unless this is the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The entries.
    pub entries: Vec<T>,
    /// What to ask for next.
    pub next: Option<String>,
}

/// Fetches page after page until there is no next token.
///
/// # Errors
/// What `fetch` reports, and [`SourceError::Inconsistent`] when a page names itself as its
/// successor: taking that as the end (as the official paginators do) would cut the list short.
pub async fn read_to_end<T, F>(
    mut fetch: impl FnMut(Option<String>) -> F,
    mut so_far: impl FnMut(usize),
) -> Result<Complete<Vec<T>>, SourceError>
where
    F: Future<Output = Result<Page<T>, SourceError>>,
{
    let mut list = Vec::new();
    let mut token: Option<String> = None;
    loop {
        let page = fetch(token.clone()).await?;
        list.extend(page.entries);
        so_far(list.len());
        match page.next.filter(|next| !next.is_empty()) {
            None => return Ok(Complete(list)),
            next if next == token => {
                return Err(SourceError::Inconsistent(
                    "a page named itself as the next one, so the list has no end".to_owned(),
                ));
            }
            next => token = next,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(entries: &[u32], next: Option<&str>) -> Page<u32> {
        Page {
            entries: entries.to_vec(),
            next: next.map(ToOwned::to_owned),
        }
    }

    #[tokio::test]
    async fn every_page_is_in_the_list() {
        let pages = [page(&[1, 2], Some("a")), page(&[], Some("b")), page(&[3], None)];
        let mut left = pages.into_iter();
        let mut counts = Vec::new();
        let list = read_to_end(
            |_| std::future::ready(Ok(left.next().unwrap())),
            |count| counts.push(count),
        )
        .await;
        assert_eq!(list.unwrap().into_inner(), [1, 2, 3]);
        assert_eq!(counts, [2, 2, 3]);
    }

    #[tokio::test]
    async fn a_failing_page_and_a_repeated_token_leave_no_list() {
        let mut calls = 0;
        let failed = read_to_end(
            |_| {
                calls += 1;
                std::future::ready(match calls {
                    1 => Ok(page(&[1], Some("a"))),
                    _ => Err(SourceError::Inconsistent("gone".to_owned())),
                })
            },
            |_| {},
        );
        assert!(failed.await.is_err());
        let repeated = read_to_end(|_| std::future::ready(Ok(page(&[1], Some("a")))), |_| {});
        assert!(repeated.await.unwrap_err().to_string().contains("next one"));
    }
}
