//! Pieces of words, three and four bytes long: words that are written nearly alike share them.
//!
//! **Invariant**: each piece of a word is found once for each time that it stands there (test
//! `words_written_alike_share_pieces`).

/// Marks the beginning and the end of a word.
const EDGE: u8 = b'^';

/// Slots for each piece, so that most look-ups end at the first one.
const SLOTS_PER_PIECE: usize = 8;

/// 2^32 divided by the golden ratio: neighbouring keys land far apart.
const SPREAD: u32 = 0x9E37_79B1;

/// Calls back for each piece of a word.
pub(super) fn each(word: &str, mut each: impl FnMut(u32)) {
    let edges = std::iter::once(EDGE).chain(word.bytes()).chain([EDGE]);
    let mut last = 0_u32;
    for (at, byte) in edges.enumerate() {
        last = last << 8 | u32::from(byte);
        if at >= 2 {
            each(last & 0x00FF_FFFF);
        }
        if at >= 3 {
            each(last);
        }
    }
}

/// The places of pieces in a question.
#[derive(Clone, Debug)]
pub(super) struct Pieces {
    /// A piece and its place; no piece is 0.
    slots: Vec<(u32, usize)>,
    count: usize,
}

impl Pieces {
    pub(super) fn new(mut pieces: Vec<u32>) -> Self {
        pieces.sort_unstable();
        pieces.dedup();
        let slots = (pieces.len() * SLOTS_PER_PIECE).next_power_of_two();
        let mut table = Self {
            slots: vec![(0, 0); slots],
            count: pieces.len(),
        };
        for (place, piece) in pieces.into_iter().enumerate() {
            let at = table.slot(piece);
            if let Some(slot) = table.slots.get_mut(at) {
                *slot = (piece, place);
            }
        }
        table
    }

    pub(super) const fn count(&self) -> usize {
        self.count
    }

    pub(super) fn place(&self, piece: u32) -> Option<usize> {
        let slot = self.slots.get(self.slot(piece));
        slot.filter(|slot| slot.0 == piece).map(|slot| slot.1)
    }

    /// The slot that a piece has, or would have.
    fn slot(&self, piece: u32) -> usize {
        let mask = self.slots.len() - 1;
        let spread = piece.wrapping_mul(SPREAD) >> 8;
        let mut at = spread as usize & mask;
        while self
            .slots
            .get(at)
            .is_some_and(|slot| slot.0 != 0 && slot.0 != piece)
        {
            at = (at + 1) & mask;
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::{Pieces, each};

    #[test]
    fn words_written_alike_share_pieces() {
        let pieces = |word: &str| {
            let mut pieces = Vec::new();
            each(word, |piece| pieces.push(piece));
            pieces
        };
        // ^do dog og^ ^dog dog^
        assert_eq!(pieces("dog").len(), 5);
        assert_eq!(pieces("x").len(), 1);
        let asked = Pieces::new(pieces("photograph"));
        let shared = |word: &str| {
            let pieces = pieces(word);
            let shared = pieces.iter().filter(|piece| asked.place(**piece).is_some());
            (shared.count(), pieces.len())
        };
        assert_eq!(asked.count(), 19);
        assert_eq!(shared("photograph"), (19, 19));
        assert_eq!(shared("photographer"), (17, 23));
        assert_eq!(shared("dog"), (0, 5));
        assert_eq!(Pieces::new(Vec::new()).place(1), None);
    }
}
