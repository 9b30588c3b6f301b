//! The bytes of one file, in pages that files and crash states share until one of them writes.

use std::sync::Arc;

use crate::fs::rng::mix;

/// What the system writes out at once.
pub(super) const PAGE: usize = 4096;
/// What a disk writes whole, whatever happens; a page has 8 of them, one for each bit of a `u8`.
pub(super) const SECTOR: usize = PAGE / 8;
/// Pages that are shared and copied together.
const CHUNK: usize = 64;

/// A page that holds something; one of zeros is an absent one.
#[derive(Clone)]
pub(super) struct Page {
    bytes: [u8; PAGE],
    hash: u64,
}

pub(super) type Slot = Option<Arc<Page>>;

/// A file's length and pages. Bytes behind the length are zero.
#[derive(Clone, Default)]
pub(super) struct Content {
    len: u64,
    chunks: Vec<Option<Arc<[Slot; CHUNK]>>>,
    /// Sum over all pages of their number and hash, kept up to date so that two contents compare in no time.
    sum: u64,
}

fn hash(bytes: &[u8; PAGE]) -> u64 {
    let mut lanes = [1_u64, 2, 3, 4];
    for block in bytes.chunks_exact(32) {
        for (lane, word) in lanes.iter_mut().zip(block.chunks_exact(8)) {
            let word = u64::from_le_bytes(word.try_into().expect("a chunk of 8 bytes"));
            *lane = (*lane ^ word).wrapping_mul(0x9fb2_1c65_1e98_df25).rotate_left(29);
        }
    }
    lanes.into_iter().fold(0, |sum, lane| mix(sum ^ lane))
}

/// A page of these bytes.
pub(super) fn page(bytes: [u8; PAGE]) -> Slot {
    if bytes == [0; PAGE] { None } else { Some(Arc::new(Page { hash: hash(&bytes), bytes })) }
}

/// The page that is on disk when only the sectors of `mask` of the new page were written.
pub(super) fn torn(old: &Slot, new: &Slot, mask: u8) -> Slot {
    let mut bytes = old.as_ref().map_or([0; PAGE], |page| page.bytes);
    let written = new.as_ref().map_or([0; PAGE], |page| page.bytes);
    for (i, (to, from)) in bytes.chunks_exact_mut(SECTOR).zip(written.chunks_exact(SECTOR)).enumerate() {
        if mask & (1 << i) != 0 {
            to.copy_from_slice(from);
        }
    }
    page(bytes)
}

impl Content {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn hash(&self) -> u64 {
        mix(self.sum ^ mix(self.len.wrapping_add(1)))
    }

    pub(super) fn page(&self, number: usize) -> Slot {
        self.chunks.get(number / CHUNK)?.as_ref()?[number % CHUNK].clone()
    }

    pub(super) fn set_page(&mut self, number: usize, page: Slot) {
        let chunk = number / CHUNK;
        if page.is_none() && self.chunks.get(chunk).is_none_or(Option::is_none) {
            return;
        }
        if self.chunks.len() <= chunk {
            self.chunks.resize(chunk + 1, None);
        }
        let pages = self.chunks[chunk].get_or_insert_with(|| Arc::new([const { None }; CHUNK]));
        let slot = &mut Arc::make_mut(pages)[number % CHUNK];
        let weight = |slot: &Slot| slot.as_ref().map_or(0, |page| mix(page.hash ^ mix(number as u64)));
        self.sum = self.sum.wrapping_sub(weight(slot)).wrapping_add(weight(&page));
        *slot = page;
    }

    /// Sets the length and touches no page: what lies behind it comes back when the length grows again.
    pub(super) fn set_len(&mut self, len: u64) {
        self.len = len;
    }

    /// Sets the length and forgets what lies behind it.
    pub(super) fn cut(&mut self, len: u64) {
        self.len = len;
        let (whole, rest) = ((len / PAGE as u64) as usize, (len % PAGE as u64) as usize);
        if rest > 0
            && let Some(last) = self.page(whole)
            && last.bytes[rest..].iter().any(|&byte| byte != 0)
        {
            let mut bytes = last.bytes;
            bytes[rest..].fill(0);
            self.set_page(whole, page(bytes));
        }
        let keep = whole + usize::from(rest > 0);
        for number in keep..self.chunks.len() * CHUNK {
            if number % CHUNK == 0 && self.chunks[number / CHUNK].is_none() {
                continue;
            }
            if self.page(number).is_some() {
                self.set_page(number, None);
            }
        }
        self.chunks.truncate(keep.div_ceil(CHUNK));
    }

    pub(super) fn read_at(&self, buf: &mut [u8], offset: u64) -> usize {
        let len = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX).min(buf.len());
        let mut done = 0;
        while done < len {
            let at = offset as usize + done;
            let (number, start) = (at / PAGE, at % PAGE);
            let now = (PAGE - start).min(len - done);
            let to = &mut buf[done..done + now];
            match self.page(number) {
                Some(page) => to.copy_from_slice(&page.bytes[start..start + now]),
                None => to.fill(0),
            }
            done += now;
        }
        len
    }

    /// Writes `buf`, calling `changed` with each page as it is afterwards. The length grows as needed.
    pub(super) fn write_at(&mut self, buf: &[u8], offset: u64, mut changed: impl FnMut(usize, &Slot)) {
        let mut done = 0;
        while done < buf.len() {
            let at = offset as usize + done;
            let (number, start) = (at / PAGE, at % PAGE);
            let now = (PAGE - start).min(buf.len() - done);
            let mut bytes = if now == PAGE { [0; PAGE] } else { self.page(number).map_or([0; PAGE], |p| p.bytes) };
            bytes[start..start + now].copy_from_slice(&buf[done..done + now]);
            let slot = page(bytes);
            changed(number, &slot);
            self.set_page(number, slot);
            done += now;
        }
        self.len = self.len.max(offset + buf.len() as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_contents_hash_alike_whatever_led_to_them() {
        let mut one = Content::default();
        one.write_at(&[7; 3 * PAGE], 100, |_, _| {});
        one.cut(5000);
        one.cut(PAGE as u64 * 200);
        let mut other = Content::default();
        other.write_at(&[7; 4900], 100, |_, _| {});
        other.set_len(PAGE as u64 * 200);
        assert_eq!(one.hash(), other.hash());
        let mut bytes = [1; 8];
        assert_eq!(one.read_at(&mut bytes, 4996), 8);
        assert_eq!(bytes, [7, 7, 7, 7, 0, 0, 0, 0]);
        other.set_len(1);
        assert_ne!(one.hash(), other.hash());
    }

    #[test]
    fn a_torn_page_has_the_new_bytes_in_the_sectors_that_were_written() {
        let torn = torn(&page([1; PAGE]), &page([2; PAGE]), 0b1000_0001).unwrap();
        let sectors: Vec<u8> = torn.bytes.chunks(SECTOR).map(|sector| sector[0]).collect();
        assert_eq!(sectors, [2, 1, 1, 1, 1, 1, 1, 2]);
    }
}
