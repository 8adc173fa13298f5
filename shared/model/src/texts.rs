//! Texts of a whole directory kept close together: names once each, everything else end to end.
//!
//! A hundred thousand users as separate strings cost several times the bytes of their texts. Here a
//! name is a number ([`Symbol`]) and any other text a place in one long string ([`Span`]).

use std::cmp::Ordering;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

/// A name or other text that occurs often, as a number. Equal texts have equal symbols.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Symbol(u32);

impl Symbol {
    /// The number, for tables indexed by symbol; below [`Texts::symbols`].
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A text's place among the [`Texts`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    start: u32,
    len: u32,
}

impl Span {
    /// Is the text empty?
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len == 0
    }
}

/// More than 4 GiB of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the texts of the directory are larger than 4 GiB")]
pub struct TooMuchText;

/// Slot of the hash table that holds no symbol.
const FREE: u64 = u64::MAX;

/// All texts of a directory.
pub struct Texts {
    /// Texts with symbols, apart from the others: a look-up then stays within a small stretch of memory.
    names: String,
    symbols: Vec<Span>,
    text: String,
    /// Open addressing, linear probing, at most half full; a power of two long. The upper half of a
    /// slot is the upper half of the hash, so that other names are passed over unread; the lower half
    /// is the symbol.
    slots: Vec<u64>,
    key: HashKey,
}

impl std::fmt::Debug for Texts {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "Texts({} symbols, {} bytes)",
            self.symbols.len(),
            self.names.len() + self.text.len()
        )
    }
}

impl Default for Texts {
    fn default() -> Self {
        Self::new()
    }
}

impl Texts {
    /// No text yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            names: String::new(),
            symbols: Vec::new(),
            text: String::new(),
            slots: vec![FREE; 64],
            key: HashKey::random(),
        }
    }

    /// How many symbols there are.
    #[must_use]
    pub fn symbols(&self) -> usize {
        self.symbols.len()
    }

    /// Keeps `text` without looking for an equal one.
    ///
    /// # Errors
    /// When 4 GiB are passed.
    pub fn add(&mut self, text: &str) -> Result<Span, TooMuchText> {
        append(&mut self.text, text)
    }

    /// The text at `span`, which [`Texts::add`] gave.
    #[must_use]
    pub fn get(&self, span: Span) -> &str {
        at(&self.text, span)
    }

    /// The symbol of `text`, new when it did not occur before.
    ///
    /// # Errors
    /// When 4 GiB are passed.
    pub fn intern(&mut self, text: &str) -> Result<Symbol, TooMuchText> {
        let hash = self.key.hash(text.as_bytes());
        let slot = match self.look(hash, text) {
            Ok(symbol) => return Ok(symbol),
            Err(slot) => slot,
        };
        let number = u32::try_from(self.symbols.len()).map_err(|_| TooMuchText)?;
        if number == u32::MAX {
            return Err(TooMuchText);
        }
        let span = append(&mut self.names, text)?;
        self.symbols.push(span);
        if let Some(free) = self.slots.get_mut(slot) {
            *free = tag(hash) | u64::from(number);
        }
        if self.symbols.len() * 2 > self.slots.len() {
            self.grow();
        }
        Ok(Symbol(number))
    }

    /// The symbol of `text`, when it has one.
    #[must_use]
    pub fn find(&self, text: &str) -> Option<Symbol> {
        self.look(self.key.hash(text.as_bytes()), text).ok()
    }

    /// [`Texts::find`] for many: `found` then holds one answer for each. Waiting for memory is most of a
    /// look-up, and here they wait together: first for some slots, then for the texts that these name.
    pub fn find_all(&self, texts: &[impl AsRef<str>], found: &mut Vec<Option<Symbol>>) {
        const TOGETHER: usize = 32;
        found.clear();
        found.reserve(texts.len());
        let mask = self.slots.len() - 1;
        let mut looked = [(0, FREE); TOGETHER];
        for some in texts.chunks(TOGETHER) {
            for (text, looked) in some.iter().zip(&mut looked) {
                let hash = self.key.hash(text.as_ref().as_bytes());
                let slot = self.slots.get(first(hash, mask)).copied().unwrap_or(FREE);
                *looked = (hash, slot);
            }
            found.extend(some.iter().zip(&looked).map(|(text, (hash, slot))| {
                let (text, symbol) = (text.as_ref(), Symbol(*slot as u32));
                if tag(*slot) == tag(*hash) && *slot != FREE && self.name(symbol) == text {
                    Some(symbol)
                } else {
                    self.look(*hash, text).ok()
                }
            }));
        }
    }

    /// The text of `symbol`.
    #[must_use]
    pub fn name(&self, symbol: Symbol) -> &str {
        self.symbols
            .get(symbol.index())
            .map(|span| at(&self.names, *span))
            .unwrap_or_default()
    }

    /// The texts of all symbols, in the order of their numbers.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.symbols.iter().map(|span| at(&self.names, *span))
    }

    /// For each symbol its place in the alphabetical order of all symbols: sorting by it is sorting
    /// by text.
    #[must_use]
    pub fn ranks(&self) -> Vec<u32> {
        // Beginnings decide almost always, and stand side by side; whole texts lie anywhere.
        let mut order: Vec<([u64; 2], u32)> = (0u32..)
            .take(self.symbols.len())
            .map(|number| (beginning(self.name(Symbol(number)).as_bytes()), number))
            .collect();
        order.sort_unstable_by(|(a_begins, a), (b_begins, b)| match a_begins.cmp(b_begins) {
            Ordering::Equal => self.name(Symbol(*a)).cmp(self.name(Symbol(*b))),
            decided => decided,
        });
        let mut ranks = vec![0; order.len()];
        for (rank, (_, symbol)) in (0u32..).zip(order) {
            if let Some(place) = ranks.get_mut(symbol as usize) {
                *place = rank;
            }
        }
        ranks
    }

    /// The symbol, or the slot where it would go.
    fn look(&self, hash: u64, text: &str) -> Result<Symbol, usize> {
        let mask = self.slots.len() - 1;
        let mut at = first(hash, mask);
        loop {
            match self.slots.get(at).copied() {
                None | Some(FREE) => return Err(at),
                Some(slot) => {
                    let symbol = Symbol(slot as u32);
                    if tag(slot) == tag(hash) && self.name(symbol) == text {
                        return Ok(symbol);
                    }
                    at = (at + 1) & mask;
                }
            }
        }
    }

    fn grow(&mut self) {
        let mut slots = vec![FREE; self.slots.len() * 2];
        let mask = slots.len() - 1;
        for number in (0u32..).take(self.symbols.len()) {
            let hash = self.key.hash(self.name(Symbol(number)).as_bytes());
            let mut at = first(hash, mask);
            while slots.get(at).is_some_and(|slot| *slot != FREE) {
                at = (at + 1) & mask;
            }
            if let Some(free) = slots.get_mut(at) {
                *free = tag(hash) | u64::from(number);
            }
        }
        self.slots = slots;
    }
}

fn append(all: &mut String, text: &str) -> Result<Span, TooMuchText> {
    if text.is_empty() {
        return Ok(Span::default());
    }
    let start = u32::try_from(all.len()).map_err(|_| TooMuchText)?;
    let len = u32::try_from(text.len()).map_err(|_| TooMuchText)?;
    start.checked_add(len).ok_or(TooMuchText)?;
    all.push_str(text);
    Ok(Span { start, len })
}

fn at(all: &str, span: Span) -> &str {
    let start = span.start as usize;
    all.get(start..start + span.len as usize).unwrap_or_default()
}

/// The part of a hash that a slot keeps. Never that of [`FREE`] together with a symbol, for no symbol
/// has the number `u32::MAX`.
fn tag(hash: u64) -> u64 {
    hash & 0xffff_ffff_0000_0000
}

/// The slot that a hash would like best: from its lower half, which the tag does not repeat.
fn first(hash: u64, mask: usize) -> usize {
    (hash as u32 as usize) & mask
}

/// The first sixteen bytes as numbers that sort as the bytes do, zeros behind a shorter text.
fn beginning(text: &[u8]) -> [u64; 2] {
    let mut bytes = [0; 16];
    for (place, byte) in bytes.iter_mut().zip(text) {
        *place = *byte;
    }
    let both = u128::from_be_bytes(bytes);
    [(both >> 64) as u64, both as u64]
}

/// Names come from strangers, so the hash has a secret key. It multiplies 64 bits by 64 and folds the
/// product, once for eight bytes; the standard library's is slower by half on texts this short.
struct HashKey([u64; 2]);

impl HashKey {
    fn random() -> Self {
        // The only randomness of the standard library; a new state has keys of its own.
        let [start, factor] = [0u8, 1].map(|word| RandomState::new().hash_one(word));
        Self([start, factor | 1])
    }

    fn hash(&self, text: &[u8]) -> u64 {
        let Self([start, factor]) = self;
        let (words, rest) = text.as_chunks::<8>();
        let mut state = start ^ text.len() as u64;
        for word in words {
            state = fold(state ^ u64::from_le_bytes(*word), *factor);
        }
        let last = rest
            .iter()
            .rev()
            .fold(0, |word: u64, byte| (word << 8) | u64::from(*byte));
        fold(fold(state ^ last, *factor), start | 1)
    }
}

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_empty_text_is_a_text() {
        let mut texts = Texts::new();
        assert!(texts.find("").is_none());
        let empty = texts.intern("").unwrap();
        assert_eq!(texts.name(empty), "");
        assert_eq!(texts.find(""), Some(empty));
        assert!(texts.add("").unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn equal_texts_have_equal_symbols_and_ranks_sort_them(
            words in prop::collection::vec("[a-d\u{0}é]{0,3}|same-beginning-[a-c]{0,9}", 0..400),
        ) {
            let mut texts = Texts::new();
            let mut model: HashMap<String, Symbol> = HashMap::new();
            for word in &words {
                let symbol = texts.intern(word).unwrap();
                prop_assert_eq!(*model.entry(word.clone()).or_insert(symbol), symbol);
                prop_assert_eq!(texts.name(symbol), word);
            }
            prop_assert_eq!(texts.symbols(), model.len());
            let asked: Vec<_> = words.iter().flat_map(|word| [word.clone(), format!("{word}?")]).collect();
            let mut found = Vec::new();
            texts.find_all(&asked, &mut found);
            prop_assert_eq!(found, asked.iter().map(|word| model.get(word).copied()).collect::<Vec<_>>());
            for (number, name) in texts.names().enumerate() {
                prop_assert_eq!(model[name].index(), number);
            }
            let ranks = texts.ranks();
            let mut sorted: Vec<_> = model.keys().collect();
            sorted.sort();
            for (rank, word) in sorted.into_iter().enumerate() {
                prop_assert_eq!(ranks[model[word].index()] as usize, rank);
            }
        }

        #[test]
        fn spans_give_back_what_was_added(words in prop::collection::vec(".{0,20}", 0..50)) {
            let mut texts = Texts::new();
            let spans: Vec<_> = words.iter().map(|word| texts.add(word).unwrap()).collect();
            for (span, word) in spans.into_iter().zip(&words) {
                prop_assert_eq!(texts.get(span), word);
            }
        }
    }
}
