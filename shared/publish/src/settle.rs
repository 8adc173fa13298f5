//! Bringing the tenant folder to what is known here, step by step; each step looks at what is there.

use std::collections::{BTreeMap, BTreeSet};

use dirless_seal::trust::{Memory, NodeList, Policy, Scope};
use dirless_seal::{Identity, Label, VerifyingKey, sha256_hex};
use jiff::SignedDuration;

use super::book::{Book, Checked, Pair};
use super::epochs::{Begun, Wanted};
use super::join::{Admission, Admitted};
use super::line::{Renewal, Ring};
use super::lists::{asked, members};
use super::publish::{Due, Shown};
use super::stock::{Kind, Stocked, plaintext};
use super::{NodeFacts, SignedError, Signer, paths, scope};

/// A head is signed anew after this long, a little under a minute.
const HEAD_EVERY: SignedDuration = SignedDuration::from_secs(55);

/// What is wanted beyond what is due.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// Sign a head although the last one is young.
    pub head: bool,
    /// Compartments that are to begin a new epoch.
    pub epochs: BTreeSet<Label>,
    /// Name a successor of the publisher's key although it is young.
    pub key: bool,
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// The version of the head that was signed, if one was.
    pub head: Option<u64>,
    /// Source, compartment and version of each manifest that was signed.
    pub published: Vec<(Label, Label, u64)>,
    /// Hosts that were admitted.
    pub admitted: Vec<NodeFacts>,
    /// Join requests that were not granted, and why.
    pub refused: Vec<String>,
    /// The publisher's key, if it is a new one.
    pub key: Option<VerifyingKey>,
    /// Epochs that began.
    pub epochs: Vec<Begun>,
    /// What was found wrong, and what of a source is therefore not published.
    pub problems: Vec<String>,
    /// Sources of which nothing is published anew, whatever was read.
    pub held: Vec<Label>,
}

/// What the steps pass on.
struct Step {
    policy: Policy,
    memory: Memory,
    ring: Ring,
    book: Book,
    /// Of all enrollers; our own, if there is one, first.
    lists: Vec<NodeList>,
    nodes: Option<u64>,
    stocked: Vec<(Label, Stocked)>,
    settled: Settled,
}

impl Signer {
    /// Does whatever is due: admits hosts, begins epochs, publishes what was stocked, and signs a head. Whatever broke
    /// off before is finished.
    ///
    /// # Errors
    /// When nothing may be signed, or a file cannot be written. Hosts go on with what they have.
    pub fn settle(&self, wish: &Wish) -> Result<Settled, SignedError> {
        let _lock = self.state.lock()?;
        let mut step = self.begin()?;
        let scope = self.role(&step.policy)?.scope.clone();
        let shown = self.look_at_head(&step.book, &step.ring)?;
        let wish = &Wish {
            head: wish.head || !matches!(shown, Shown::Newest),
            ..wish.clone()
        };
        if let Shown::Foreign(problem) = shown {
            step.settled.problems.push(problem);
        }
        let wanted = self.wanted(&mut step, &scope)?;
        self.renew_key(&mut step, &scope, &wanted, wish)?;
        let mail = self.take_mail(&mut step)?;
        self.take_lists(&mut step)?;
        let due = self.epochs_due(&mut step, wish)?;
        self.publish(&mut step, &scope, &wanted, &due, wish)?;
        for (compartment, (epoch, _)) in &due {
            let old = |current: &super::book::Current| current.epoch < *epoch;
            if !step
                .book
                .published()
                .any(|((_, own), current)| own == *compartment && old(current))
            {
                self.forget_epochs(compartment, *epoch)?;
            }
        }
        if let Some(mail) = mail {
            self.enroller.clear_mail(&mail)?;
        }
        if !step.settled.published.is_empty() {
            self.sweep_bodies(&step.stocked, &step.book)?;
        }
        step.settled.problems.extend(self.tenant_folder.troubles());
        Ok(step.settled)
    }

    /// Is anything due? Far cheaper than [`Signer::settle`], so that it can be asked every few seconds.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn is_due(&self) -> Result<bool, SignedError> {
        let book = self.book()?;
        let young = book
            .signed_at
            .and_then(|at| at.checked_add(HEAD_EVERY).ok())
            .is_some_and(|end| self.now() < end);
        Ok(!young || self.enroller.has_mail()? || self.enroller.has_news()?)
    }

    fn begin(&self) -> Result<Step, SignedError> {
        let book = self.book()?;
        let mut memory = book.memory(self.tenant, self.config.roots)?;
        let mut settled = Settled::default();
        let policy = self.policy(&mut memory, &mut settled.problems)?;
        let ring = self.ring(&policy, &mut memory)?;
        Ok(Step {
            policy,
            memory,
            ring,
            book,
            lists: Vec::new(),
            nodes: None,
            stocked: self.all_stocked()?,
            settled,
        })
    }

    /// Sees to the successors of the publisher's key. What is published must bear the new one's signature, too.
    fn renew_key(
        &self,
        step: &mut Step,
        scope: &Scope,
        wanted: &[(Pair, Stocked)],
        wish: &Wish,
    ) -> Result<(), SignedError> {
        let mut held = BTreeSet::new();
        for (pair, current) in step.book.published() {
            let stays = self.is_read(&pair, scope) && !wanted.iter().any(|(other, _)| *other == pair);
            if stays && self.plaintext_of(&current.plaintext)?.is_none() {
                held.insert(format!("source {}", pair.0));
            }
        }
        let renewal = Renewal {
            by_hand: wish.key,
            held: &held.into_iter().collect::<Vec<_>>(),
        };
        let Step {
            policy,
            memory,
            ring,
            settled,
            ..
        } = step;
        settled.key = self.renew(ring, policy, memory, renewal, &mut settled.problems)?;
        Ok(())
    }

    /// Admits whoever asked. Without an enroller's role nobody is, and that is told only when somebody asks.
    fn take_mail(&self, step: &mut Step) -> Result<Option<Admitted>, SignedError> {
        step.lists = self.enroller.others(&step.policy, &mut step.settled.problems)?;
        if !self.enroller.has_mail()? {
            return Ok(None);
        }
        if let Err(error) = self.enroller.check(&step.policy) {
            step.settled.problems.push(error.to_string());
            return Ok(None);
        }
        let admitted = self.enroller.admit(&step.policy, &step.lists, &Admission::Everybody)?;
        step.settled.admitted.clone_from(&admitted.nodes);
        step.settled.refused.clone_from(&admitted.refused);
        Ok(Some(admitted))
    }

    fn take_lists(&self, step: &mut Step) -> Result<(), SignedError> {
        let mut lists = self.enroller.put_own(&step.policy, &mut step.settled.problems)?;
        step.nodes = lists.first().map(|own| own.version);
        lists.append(&mut step.lists);
        step.lists = lists;
        self.enroller.register(&step.lists, &mut step.settled.problems)
    }

    /// The epoch and key of each compartment, new ones where they are due.
    fn epochs_due(&self, step: &mut Step, wish: &Wish) -> Result<BTreeMap<Label, (u64, Identity)>, SignedError> {
        let mut due = BTreeMap::new();
        for compartment in self.compartments() {
            let members = members(&step.lists, &compartment);
            let wanted = Wanted {
                ring: &step.ring,
                asked: asked(&step.lists, &compartment),
                by_hand: wish.epochs.contains(&compartment),
            };
            let (epoch, identity, begun) = self.epoch(&compartment, &members, &step.policy, &step.book, &wanted)?;
            step.settled.epochs.extend(begun);
            due.insert(compartment, (epoch.number, identity));
        }
        Ok(due)
    }

    fn publish(
        &self,
        step: &mut Step,
        scope: &Scope,
        wanted: &[(Pair, Stocked)],
        epochs: &BTreeMap<Label, (u64, Identity)>,
        wish: &Wish,
    ) -> Result<(), SignedError> {
        let before = step.book.clone();
        self.drop_unwanted(step, scope);
        let kept = self.kept(&step.book, wanted, epochs)?;
        let mut due = Vec::new();
        for (pair, stocked) in wanted.iter().chain(&kept) {
            let Some((epoch, identity)) = epochs.get(&pair.1) else {
                continue;
            };
            let current = step.book.current(pair);
            if current.is_none_or(|current| current.plaintext != stocked.plaintext || current.epoch != *epoch) {
                due.push(Due {
                    pair: pair.clone(),
                    stocked,
                    epoch: *epoch,
                    identity,
                });
            }
        }
        let made = self.make(due, &mut step.book, &step.ring)?;
        for made in &made {
            let (source, compartment) = made.pair.clone();
            step.settled.published.push((source, compartment, made.current.version));
        }
        step.settled.problems.extend(self.tenant_folder.troubles());
        step.book.problems.clone_from(&step.settled.problems);
        let nodes = step.nodes;
        let old = before
            .signed_at
            .and_then(|at| at.checked_add(HEAD_EVERY).ok())
            .is_none_or(|end| end <= self.now());
        let other = before.published().ne(step.book.published());
        let news = before.nodes != nodes || before.policy != step.policy.version;
        if old || other || news || wish.head || !made.is_empty() {
            let version = self.put_head(
                &step.policy,
                nodes,
                made,
                &mut step.book,
                step.memory.clone(),
                &step.ring,
            )?;
            step.settled.head = Some(version);
            if self.sweep_blobs(&mut step.book)? {
                step.book.save(self.state.as_ref(), self.publisher())?;
            }
        } else if before != step.book {
            step.book.save(self.state.as_ref(), self.publisher())?;
        }
        Ok(())
    }

    /// What is to be published of what was stocked.
    fn wanted(&self, step: &mut Step, scope: &Scope) -> Result<Vec<(Pair, Stocked)>, SignedError> {
        let mut wanted = Vec::new();
        for (source, stocked) in &step.stocked {
            let own: Vec<Label> = self.readers(source).collect();
            if own.is_empty() {
                continue;
            }
            let (outside, within) = self.within(source, stocked, step.policy.version, scope, &mut step.book)?;
            if !outside.is_empty() {
                let what = match within {
                    Some(_) => "is published without what",
                    None => "is not published anew, for it says what",
                };
                step.settled.problems.push(format!(
                    "source {source} {what} policy {} does not let {} say: {}",
                    step.policy.version,
                    self.publisher(),
                    outside.join("; ")
                ));
            }
            let Some(within) = within else {
                step.settled.held.push(source.clone());
                continue;
            };
            for compartment in own {
                let view = self.view(source, &within, &compartment)?;
                wanted.push(((source.clone(), compartment), view));
            }
        }
        Ok(wanted)
    }

    /// What stays as it was published although its compartment has another epoch: sealed to that one, hosts that came since can
    /// read it, too, and those that are gone cannot tell what becomes of it.
    fn kept(
        &self,
        book: &Book,
        wanted: &[(Pair, Stocked)],
        epochs: &BTreeMap<Label, (u64, Identity)>,
    ) -> Result<Vec<(Pair, Stocked)>, SignedError> {
        let mut kept = Vec::new();
        for (pair, current) in book.published() {
            let is_old = epochs.get(&pair.1).is_some_and(|(epoch, _)| current.epoch != *epoch);
            if is_old
                && !wanted.iter().any(|(other, _)| *other == pair)
                && let Some(stocked) = self.as_published(&pair.0, current)?
            {
                kept.push((pair, stocked));
            }
        }
        Ok(kept)
    }

    /// Have configuration and policy this source in this compartment?
    fn is_read(&self, (source, compartment): &Pair, scope: &Scope) -> bool {
        scope.covers_source(source) && self.readers(source).any(|own| own == *compartment)
    }

    /// The compartments that read `source`.
    fn readers(&self, source: &Label) -> impl Iterator<Item = Label> {
        let all = self.config.compartments().into_iter();
        all.filter_map(move |compartment| compartment.reads(source).then_some(compartment.name))
    }

    /// What of `stocked` is outside `scope`, for people, and what is published in its place: the rest of a snapshot, for who
    /// leaves it is not to stay for what another record says; nothing of access rules, which mean something as a whole.
    /// Looked at once for each content and policy.
    fn within(
        &self,
        source: &Label,
        stocked: &Stocked,
        policy: u64,
        scope: &Scope,
        book: &mut Book,
    ) -> Result<(Vec<String>, Option<Stocked>), SignedError> {
        if !scope.covers_source(source) {
            return Ok((vec![format!("the source {source} itself is outside the scope")], None));
        }
        let known = book.checked.get(source.as_str());
        let same = known.filter(|known| known.plaintext == stocked.plaintext && known.policy == policy);
        if let Some(known) = same {
            // What was made of it may have been swept away since.
            let is_there = match &known.within {
                Some(within) => self.state.has(&paths::body(&within.plaintext))?,
                None => true,
            };
            if is_there {
                return Ok((known.outside.clone(), known.sayable(stocked)));
            }
        }
        let unreadable = |reason| SignedError::Unreadable {
            source_name: source.clone(),
            reason,
        };
        let since = stocked.since.as_ref().filter(|since| {
            known.is_some_and(|known| {
                known.plaintext == since.from && known.policy == policy && known.outside.is_empty()
            })
        });
        // All that was there before may be said: what came since is left to look at.
        let is_within = match since {
            Some(since) => {
                scope::outside(scope, stocked.kind, since.come().into_reader()).map(|found| found.is_empty())
            }
            None => Ok(false),
        };
        let outside = match is_within.map_err(unreadable)? {
            true => Vec::new(),
            false => {
                let body = self.body(stocked)?;
                scope::outside(scope, stocked.kind, plaintext(&body)).map_err(unreadable)?
            }
        };
        let within = match stocked.kind {
            Kind::Snapshot if !outside.is_empty() => {
                let body = self.body(stocked)?;
                let text = scope::within(scope, plaintext(&body)).map_err(unreadable)?;
                Some(self.keep(source, stocked.kind, sha256_hex(&text), &text, None)?)
            }
            _ => None,
        };
        let checked = Checked {
            plaintext: stocked.plaintext.clone(),
            policy,
            outside,
            within,
        };
        let found = (checked.outside.clone(), checked.sayable(stocked));
        book.checked.insert(source.to_string(), checked);
        Ok(found)
    }

    /// Takes out what the configuration or the policy no longer has: one source too many, and hosts refuse the head.
    fn drop_unwanted(&self, step: &mut Step, scope: &Scope) {
        let now = self.now();
        let pairs: Vec<Pair> = step.book.published().map(|(pair, _)| pair).collect();
        for pair in pairs {
            if !self.is_read(&pair, scope) {
                step.book.drop_pair(self.publisher(), &pair, now);
            }
        }
    }
}
