use std::time::{Duration, Instant};

/// How long to let others run between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// Asks `probe` again and again until it answers, at most for `limit`.
///
/// # Errors
/// When the limit passes first; the error names `what` was awaited.
pub fn eventually<T>(limit: Duration, what: &str, mut probe: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = probe() {
            return Ok(answer);
        }
        if Instant::now() >= deadline {
            anyhow::bail!("waited {limit:?} in vain for {what}");
        }
        std::thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_answer_ends_the_wait() {
        let mut looks = 0;
        let answer = eventually(Duration::from_secs(5), "the third look", || {
            looks += 1;
            (looks == 3).then_some(looks)
        });
        assert_eq!(answer.unwrap(), 3);
    }

    #[test]
    fn the_limit_ends_it_too_and_names_what_was_awaited() {
        let error = eventually(Duration::from_millis(20), "rain", || None::<()>).unwrap_err();
        assert!(error.to_string().contains("rain"), "{error}");
    }
}
