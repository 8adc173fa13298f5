//! Texts of a whole directory kept close together: names once each, everything else end to end.
//!
//! A hundred thousand users as separate strings cost several times the bytes of their texts. Here a
//! name is a number ([`Symbol`]) and any other text a place in one long string ([`Span`]).

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
const FREE: u32 = u32::MAX;

/// All texts of a directory.
pub struct Texts {
    text: String,
    symbols: Vec<Span>,
    /// Open addressing, linear probing, at most half full; a power of two long.
    slots: Vec<u32>,
    hasher: RandomState,
}

impl std::fmt::Debug for Texts {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "Texts({} symbols, {} bytes)",
            self.symbols.len(),
            self.text.len()
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
            text: String::new(),
            symbols: Vec::new(),
            slots: vec![FREE; 64],
            hasher: RandomState::new(),
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
        if text.is_empty() {
            return Ok(Span::default());
        }
        let start = u32::try_from(self.text.len()).map_err(|_| TooMuchText)?;
        let len = u32::try_from(text.len()).map_err(|_| TooMuchText)?;
        start.checked_add(len).ok_or(TooMuchText)?;
        self.text.push_str(text);
        Ok(Span { start, len })
    }

    /// The text at `span`.
    #[must_use]
    pub fn get(&self, span: Span) -> &str {
        let start = span.start as usize;
        self.text.get(start..start + span.len as usize).unwrap_or_default()
    }

    /// The symbol of `text`, new when it did not occur before.
    ///
    /// # Errors
    /// When 4 GiB are passed.
    pub fn intern(&mut self, text: &str) -> Result<Symbol, TooMuchText> {
        let slot = match self.look(text) {
            Ok(symbol) => return Ok(symbol),
            Err(slot) => slot,
        };
        let number = u32::try_from(self.symbols.len()).map_err(|_| TooMuchText)?;
        if number == FREE {
            return Err(TooMuchText);
        }
        let span = self.add(text)?;
        self.symbols.push(span);
        if let Some(free) = self.slots.get_mut(slot) {
            *free = number;
        }
        if self.symbols.len() * 2 > self.slots.len() {
            self.grow();
        }
        Ok(Symbol(number))
    }

    /// The symbol of `text`, when it has one.
    #[must_use]
    pub fn find(&self, text: &str) -> Option<Symbol> {
        self.look(text).ok()
    }

    /// The text of `symbol`.
    #[must_use]
    pub fn name(&self, symbol: Symbol) -> &str {
        self.symbols
            .get(symbol.index())
            .map(|span| self.get(*span))
            .unwrap_or_default()
    }

    /// For each symbol its place in the alphabetical order of all symbols: sorting by it is sorting
    /// by text.
    #[must_use]
    pub fn ranks(&self) -> Vec<u32> {
        let mut order: Vec<u32> = (0..).take(self.symbols.len()).collect();
        order.sort_unstable_by(|a, b| self.name(Symbol(*a)).cmp(self.name(Symbol(*b))));
        let mut ranks = vec![0; order.len()];
        for (rank, symbol) in (0u32..).zip(order) {
            if let Some(place) = ranks.get_mut(symbol as usize) {
                *place = rank;
            }
        }
        ranks
    }

    /// The symbol, or the slot where it would go.
    fn look(&self, text: &str) -> Result<Symbol, usize> {
        let mask = self.slots.len() - 1;
        let mut at = self.place(text, mask);
        loop {
            match self.slots.get(at).copied() {
                None | Some(FREE) => return Err(at),
                Some(number) if self.name(Symbol(number)) == text => return Ok(Symbol(number)),
                Some(_) => at = (at + 1) & mask,
            }
        }
    }

    /// Names come from strangers, so the hash is keyed.
    fn place(&self, text: &str, mask: usize) -> usize {
        usize::try_from(self.hasher.hash_one(text) & mask as u64).unwrap_or(0)
    }

    fn grow(&mut self) {
        let mut slots = vec![FREE; self.slots.len() * 2];
        let mask = slots.len() - 1;
        for number in (0u32..).take(self.symbols.len()) {
            let mut at = self.place(self.name(Symbol(number)), mask);
            while slots.get(at).is_some_and(|slot| *slot != FREE) {
                at = (at + 1) & mask;
            }
            if let Some(free) = slots.get_mut(at) {
                *free = number;
            }
        }
        self.slots = slots;
    }
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
        fn equal_texts_have_equal_symbols_and_ranks_sort_them(words in prop::collection::vec("[a-d]{0,3}", 0..400)) {
            let mut texts = Texts::new();
            let mut model: HashMap<String, Symbol> = HashMap::new();
            for word in &words {
                let symbol = texts.intern(word).unwrap();
                prop_assert_eq!(*model.entry(word.clone()).or_insert(symbol), symbol);
                prop_assert_eq!(texts.name(symbol), word);
            }
            prop_assert_eq!(texts.symbols(), model.len());
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
