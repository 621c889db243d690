//! Header compression of HTTP/2 (RFC 7541): a decoder of all of it, and an encoder without a dynamic table. Knows bytes only: what a
//! field may be called or say is for `field_h2.rs`, how large a header section may be is for who takes the fields.

mod encode;
mod fixed;
mod huffman;
pub(crate) mod primitives;
mod table;
#[cfg(test)]
mod tests;

pub use encode::{hpack_field, hpack_known, hpack_no_table, hpack_status};

use primitives::{Text, integer, reserve, string};
use std::cell::Cell;
use table::{TABLE_BYTES_LIMIT, Table};

/// What an encoder's table is, in bytes by §4.1, until a size update says otherwise (RFC 9113 §6.5.2).
const TABLE_BYTES_INITIAL: usize = 4096;

/// What is wrong with a block. Any but `TOO_MUCH` is a COMPRESSION_ERROR of the connection (RFC 9113 §4.3): the two tables are no longer
/// the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HpackError(pub &'static str);

impl HpackError {
    /// A block that unpacks to more than anybody needs: a bomb.
    pub const TOO_MUCH: HpackError = HpackError("a block that unpacks to too much");
}

/// What each field counts for beside its bytes (RFC 9113 §6.5.2).
const FIELD_OVERHEAD: usize = 32;

/// Decoding state of one direction of one connection.
#[derive(Debug)]
pub struct HpackDecoder {
    table: Table,
    section_bytes_max: usize,
}

impl HpackDecoder {
    /// `table_bytes_max`: what we announce as SETTINGS_HEADER_TABLE_SIZE (4096 by default of the protocol, and 1 GiB at most). The peer
    /// may use more than the default only after a size update; where less is announced, it must have heard of that before its first
    /// block. Allocates nothing before something is inserted; then up to twice as much for text, and 24 bytes for each 32.
    pub fn new(table_bytes_max: usize) -> HpackDecoder {
        let announced = table_bytes_max.min(TABLE_BYTES_LIMIT);
        HpackDecoder { table: Table::new(announced.min(TABLE_BYTES_INITIAL), announced), section_bytes_max: usize::MAX }
    }

    /// A block is decoded no further than to so many bytes, as RFC 9113 §6.5.2 counts them; then it is `TOO_MUCH`. It ought to be far
    /// above what callers take: a block that is merely too large for them can still be answered.
    pub fn bounded(self, section_bytes_max: usize) -> HpackDecoder {
        HpackDecoder { section_bytes_max, ..self }
    }

    /// Decodes one whole header block. `field(name, value)` for each field in order, pseudo-fields included. The slices live for the
    /// call only, and each is no longer than the largest of the table, 8/5 of the block, and 27 bytes for the static table. `scratch` holds Huffman-decoded strings: what
    /// is in it before and after says nothing, and it is fastest when it is left as it is from one block to the next. A block is
    /// decoded to its end, so that the table stays true, whatever the callback thinks of it; but see `bounded`. After an error the decoder is of no use.
    pub fn decode(&mut self, block: &[u8], scratch: &mut Vec<u8>, mut field: impl FnMut(&[u8], &[u8])) -> Result<(), HpackError> {
        let unpacked = Cell::new(0);
        let mut field = |name: &[u8], value: &[u8]| {
            unpacked.set(unpacked.get() + name.len() + value.len() + FIELD_OVERHEAD);
            field(name, value);
        };
        let mut rest = block;
        let mut is_start = true;
        while let Some((&first, behind)) = rest.split_first() {
            rest = behind;
            match first {
                0x80.. => {
                    let (name, value) = self.entry(integer(&mut rest, first, 0x7f)?)?;
                    field(name, value);
                }
                0x40..0x80 => self.literal(&mut rest, scratch, (first, 0x3f), &mut field)?,
                0x00..0x20 => self.literal(&mut rest, scratch, (first, 0x0f), &mut field)?,
                0x20..0x40 => {
                    if !is_start {
                        return Err(HpackError("a size update behind a field"));
                    }
                    if !self.table.resize(integer(&mut rest, first, 0x1f)?) {
                        return Err(HpackError("a size update above what was announced"));
                    }
                    continue;
                }
            }
            is_start = false;
            if unpacked.get() > self.section_bytes_max {
                return Err(HpackError::TOO_MUCH);
            }
        }
        Ok(())
    }

    /// What an index stands for (§2.3.3).
    #[inline]
    fn entry(&self, index: usize) -> Result<(&[u8], &[u8]), HpackError> {
        if let Some(&pair) = fixed::TABLE.get(index.wrapping_sub(1)) {
            return Ok(pair);
        }
        // Index 0 has become a huge one.
        let of_table = index.wrapping_sub(1 + fixed::LENGTH);
        self.table.get(of_table).ok_or(HpackError("an index of nothing"))
    }

    /// §6.2; `first` with the bits of its prefix. The wider prefix is that of a literal which enters the table.
    fn literal(
        &mut self,
        rest: &mut &[u8],
        scratch: &mut Vec<u8>,
        (first, mask): (u8, u8),
        field: &mut impl FnMut(&[u8], &[u8]),
    ) -> Result<(), HpackError> {
        let index = integer(rest, first, mask)?;
        let mut used = 0;
        let name = if index == 0 {
            string(rest, scratch, &mut used)?
        } else if let Some((name, _)) = fixed::TABLE.get(index - 1) {
            Text::Plain(name)
        } else {
            // A copy, since its entry may have to go for the new one (§4.4).
            let (name, _) = self.entry(index)?;
            used = name.len();
            reserve(scratch, used)[..used].copy_from_slice(name);
            Text::Scratch(0, used)
        };
        let value = string(rest, scratch, &mut used)?;
        let (name, value) = (name.of(scratch), value.of(scratch));
        field(name, value);
        if mask == 0x3f {
            self.table.insert(name, value);
        }
        Ok(())
    }
}
