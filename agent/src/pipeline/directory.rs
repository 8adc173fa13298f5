//! The directory copy for LDAP on this host: users and groups that passed the host limits, as entries.

mod edit;
#[cfg(test)]
mod tests;

use std::path::Path;

use dirless_copy::{CopyError, Draft, Group, Layered, Posix, Summary, Target, User};
use dirless_directory::Dn;
use jiff::Timestamp;

pub(crate) use edit::{FollowCopyError, Held, plan};

use super::{Content, Tree};

/// Stands in the copy for how entries are made of users and groups; another number makes them anew.
pub(super) const SHAPE: u32 = 1;

/// Brings the copy at `path` to `content`, whose digest is `digest`, with `tree` over it, below `base`. Nothing is written
/// when it says so already. A copy that cannot be read is made anew.
///
/// # Errors
/// When the copy cannot be written; the one in place stays.
pub fn publish(
    path: &Path,
    base: &Dn,
    content: &Content,
    tree: &Tree,
    digest: &str,
    now: Timestamp,
) -> Result<Option<Summary>, CopyError> {
    let told = format!(
        "{SHAPE} {digest} {} {} {base}",
        tree.overlay.digest(),
        tree.schema_digest()
    );
    if Draft::content(path).is_some_and(|held| held == told) {
        return Ok(None);
    }
    if let Some(folder) = path.parent().filter(|folder| !folder.exists()) {
        dirless_program::fs::ensure_folder(folder, 0o750).map_err(|source| CopyError::File {
            doing: "make",
            path: folder.to_owned(),
            source,
        })?;
    }
    // The time of its first generation and its content tell a series from every other.
    let lineage: String = format!("{:x}{digest}", now.as_nanosecond()).chars().take(40).collect();
    let make = |anew| {
        let draft = Draft::begin(path, tree.schema.clone(), &lineage, now, anew)?;
        fill(draft, base, content, tree, &told)
    };
    make(false).or_else(|_| make(true)).map(Some)
}

fn fill(mut draft: Draft, base: &Dn, content: &Content, tree: &Tree, told: &str) -> Result<Summary, CopyError> {
    let Tree { overlay, schema } = tree;
    let Some(mut posix) = Posix::new(schema.clone(), base.clone()) else {
        return Err(CopyError::Order(base.to_string()));
    };
    let mut layered = Layered::new(&mut draft, overlay, schema);
    posix.begin(&mut layered)?;
    put_groups(&mut posix, &mut layered, content)?;
    posix.users(&mut layered)?;
    let memberships = Memberships::of(content);
    for (place, user) in content.directory.users.iter().enumerate() {
        let record = User {
            name: content.texts.name(user.name),
            uid: user.uid.number(),
            gid: user.gid.number(),
            gecos: content.texts.get(user.gecos),
            home: content.texts.get(user.home),
            shell: content.texts.name(user.shell),
            keys: content.texts.get(user.keys),
        };
        let groups = memberships.groups(place).iter();
        let groups = groups.filter_map(|group| content.directory.groups.get(*group as usize));
        posix.user(&mut layered, record, groups.map(|group| content.texts.name(group.name)))?;
    }
    layered.finish()?;
    draft.finish(told)
}

/// Groups and private groups, both in the order of their names, in one order.
fn put_groups(posix: &mut Posix, target: &mut dyn Target, content: &Content) -> Result<(), CopyError> {
    let (directory, texts) = (&content.directory, &content.texts);
    let mut places = content.private.users.clone();
    places.sort_unstable();
    let private = places.iter().filter_map(|place| directory.users.get(*place as usize));
    let mut private = private.peekable();
    let mut alone = |posix: &mut Posix, target: &mut dyn Target, below: Option<&str>| {
        while let Some(user) = private.next_if(|user| below.is_none_or(|below| texts.name(user.name) <= below)) {
            let name = texts.name(user.name);
            if below != Some(name) {
                let gid = user.gid.number();
                posix.group(target, Group { name, gid }, std::iter::empty())?;
            }
        }
        Ok::<_, CopyError>(())
    };
    let mut members = Vec::new();
    for group in &directory.groups {
        let name = texts.name(group.name);
        alone(posix, target, Some(name))?;
        members.clear();
        members.extend_from_slice(directory.members(group));
        // Places are in the order of names, whatever order the sources had.
        members.sort_unstable();
        members.dedup();
        let names = members.iter().filter_map(|place| directory.users.get(*place as usize));
        let record = Group {
            name,
            gid: group.gid.number(),
        };
        posix.group(target, record, names.map(|user| texts.name(user.name)))?;
    }
    alone(posix, target, None)
}

/// The groups of each user, as places among the groups.
struct Memberships {
    /// Where the groups of each user begin; one more than there are users.
    starts: Vec<u32>,
    groups: Vec<u32>,
}

impl Memberships {
    fn of(content: &Content) -> Self {
        let directory = &content.directory;
        let mut starts = vec![0_u32; directory.users.len() + 1];
        let members = || (0_u32..).zip(directory.groups.iter().map(|group| directory.members(group)));
        for (_, members) in members() {
            for place in members {
                if let Some(count) = starts.get_mut(*place as usize + 1) {
                    *count += 1;
                }
            }
        }
        let mut sum = 0;
        for start in &mut starts {
            sum += *start;
            *start = sum;
        }
        let mut next = starts.clone();
        let mut groups = vec![0_u32; sum as usize];
        for (group, members) in members() {
            for place in members {
                if let Some(at) = next.get_mut(*place as usize) {
                    if let Some(slot) = groups.get_mut(*at as usize) {
                        *slot = group;
                    }
                    *at += 1;
                }
            }
        }
        Self { starts, groups }
    }

    fn groups(&self, user: usize) -> &[u32] {
        let bound = |at: usize| self.starts.get(at).map_or(0, |start| *start as usize);
        self.groups.get(bound(user)..bound(user + 1)).unwrap_or_default()
    }
}
