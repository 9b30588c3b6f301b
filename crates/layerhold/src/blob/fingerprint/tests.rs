use super::*;

const KIB: usize = 1_024;

/// Bytes that differ between groups, so that no two groups have one value by chance.
fn content(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&(state >> 16).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

fn group_len(bytes: usize) -> GroupLen {
    GroupLen::new(u32::try_from(bytes).unwrap()).unwrap()
}

fn root_of(bytes: &[u8]) -> Root {
    blake3::hash(bytes).into()
}

/// Lengths around every shape that a tree of groups can take.
fn lengths(group: usize) -> Vec<usize> {
    let mut lengths = vec![0, 1, KIB - 1, KIB, KIB + 1, group - 1];
    for groups in [1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 31, 32, 33] {
        lengths.extend([groups * group - 1, groups * group, groups * group + 1]);
    }
    lengths
}

#[test]
fn the_root_is_the_plain_hash_and_follows_from_the_groups() {
    for group in [KIB, 2 * KIB, 16 * KIB] {
        let group_len = group_len(group);
        for len in lengths(group) {
            let bytes = content(len);
            let mut hasher = FingerprintHasher::new(group_len);
            hasher.update(&bytes);
            assert_eq!(hasher.len(), len as u64);
            let early = hasher.take_groups();
            assert_eq!(early.first, 0);
            let fingerprint = hasher.finish();
            assert_eq!(fingerprint.root, root_of(&bytes), "group={group} len={len}");
            assert_eq!(fingerprint.len, len as u64);
            assert_eq!(fingerprint.group_count, len.div_ceil(group) as u64);
            assert_eq!(fingerprint.remaining.first, early.values.len() as u64);

            let values = [early.values, fingerprint.remaining.values].concat();
            assert_eq!(values.len() as u64, fingerprint.group_count, "group={group} len={len}");
            assert_eq!(root_from_groups(group_len, &values, len as u64), Some(fingerprint.root));
            assert_eq!(*values.last().unwrap_or(&fingerprint.root), fingerprint.last_group);
            for (index, chunk) in bytes.chunks(group).enumerate() {
                let only = values.len() == 1;
                assert!(verify_group(group_len, index as u64, chunk, &values[index], only), "len={len} index={index}");
            }
        }
    }
}

#[test]
fn how_the_bytes_are_cut_makes_no_difference() {
    let group = 4 * KIB;
    let bytes = content(11 * group + 77);
    let whole = root_of(&bytes);
    for step in [1, 7, 64, 1_023, 1_024, 1_025, group - 1, group, group + 1, 3 * group, bytes.len()] {
        let mut hasher = FingerprintHasher::new(group_len(group));
        let mut values = Vec::new();
        for slice in bytes.chunks(step) {
            hasher.update(slice);
            hasher.update(&[]);
            let run = hasher.take_groups();
            assert_eq!(run.first, values.len() as u64);
            values.extend(run.values);
        }
        let fingerprint = hasher.finish();
        assert_eq!(fingerprint.root, whole, "step={step}");
        values.extend(fingerprint.remaining.values);
        assert_eq!(root_from_groups(group_len(group), &values, bytes.len() as u64), Some(whole));
    }
}

#[test]
fn the_first_value_waits_until_it_is_final() {
    let bytes = content(2 * KIB);
    let mut hasher = FingerprintHasher::new(group_len(KIB));
    hasher.update(&bytes[..KIB]);
    assert!(hasher.take_groups().values.is_empty());
    let only = hasher.clone().finish();
    assert_eq!(only.root, root_of(&bytes[..KIB]));
    assert_eq!(only.remaining, GroupRun { first: 0, values: vec![only.root] });
    hasher.update(&bytes[KIB..KIB + 1]);
    let run = hasher.take_groups();
    assert_eq!((run.first, run.values.len()), (0, 1));
    assert_ne!(run.values[0], only.root);
    hasher.update(&bytes[KIB + 1..]);
    let run = hasher.take_groups();
    assert_eq!((run.first, run.values.len()), (1, 1));
    let fingerprint = hasher.finish();
    assert_eq!(fingerprint.remaining, GroupRun { first: 2, values: vec![] });
    assert_eq!(fingerprint.last_group, run.values[0]);
}

#[test]
fn a_frontier_goes_on_at_every_offset() {
    let group = KIB;
    let bytes = content(9 * group + 5);
    for cut in (0..=bytes.len()).filter(|cut| cut % 97 == 0 || cut % group <= 1 || cut % group == group - 1) {
        let mut hasher = FingerprintHasher::new(group_len(group));
        hasher.update(&bytes[..cut]);
        let mut values = hasher.take_groups().values;
        let saved = hasher.save_frontier();
        assert!(saved.len() <= 13 + 32 * 5, "the frontier grows with the logarithm: {}", saved.len());

        let frontier = Frontier::parse(&saved).unwrap();
        assert_eq!((frontier.offset(), frontier.group_len()), (cut as u64, group_len(group)));
        assert_eq!((frontier.tail_len(), frontier.tail_start()), (cut % group, (cut - cut % group) as u64));
        let tail = &bytes[cut - cut % group..cut];
        // What is kept of the tail tells later whether the bytes read back are the same.
        assert_eq!(hasher.tail_value(), group_value(group_len(group), (cut / group) as u64, tail, false), "cut={cut}");
        let mut restored = FingerprintHasher::restore(&saved, tail).unwrap();
        assert_eq!(restored.len(), cut as u64);
        assert_eq!(restored.save_frontier(), saved);
        // Ending here, and going on from here, are both right.
        let ended = restored.clone().finish();
        assert_eq!(ended.root, root_of(&bytes[..cut]), "cut={cut}");
        restored.update(&bytes[cut..]);
        let run = restored.take_groups();
        assert_eq!(run.first, values.len() as u64, "cut={cut}");
        values.extend(run.values);
        let fingerprint = restored.finish();
        assert_eq!(fingerprint.root, root_of(&bytes), "cut={cut}");
        values.extend(fingerprint.remaining.values);
        assert_eq!(root_from_groups(group_len(group), &values, bytes.len() as u64), Some(fingerprint.root));
    }
}

#[test]
fn a_foreign_frontier_is_refused() {
    for groups in [0, 1, 2, 5] {
        let mut hasher = FingerprintHasher::new(group_len(KIB));
        hasher.update(&content(groups * KIB));
        hasher.take_groups();
        let saved = hasher.save_frontier();
        for len in 0..saved.len() {
            assert_eq!(Frontier::parse(&saved[..len]), Err(InvalidFrontier::Damaged { len }));
        }
        for extra in [1, 32] {
            let mut long = saved.clone();
            long.resize(saved.len() + extra, 0);
            assert!(matches!(Frontier::parse(&long), Err(InvalidFrontier::Damaged { .. })));
        }
        let mut other = saved.clone();
        other[0] = 2;
        assert_eq!(Frontier::parse(&other), Err(InvalidFrontier::Version { found: 2, supported: 1 }));
        let mut other = saved.clone();
        other[4] = 1;
        assert!(matches!(Frontier::parse(&other), Err(InvalidFrontier::Damaged { .. })), "group length");
        assert_eq!(
            FingerprintHasher::restore(&saved, &[0]).unwrap_err(),
            InvalidFrontier::TailLength { expected: 0, found: 1 }
        );
    }
    // The largest offset that the form can say does not overflow anything.
    let mut saved = vec![1, 0, 0, 4, 0];
    saved.extend_from_slice(&u64::MAX.to_be_bytes());
    let count = u64::MAX / KIB as u64;
    saved.resize(13 + 32 * Tree::height(count), 7);
    let frontier = Frontier::parse(&saved).unwrap();
    assert_eq!((frontier.offset(), frontier.tail_len()), (u64::MAX, KIB - 1));
}

#[test]
fn a_frontier_has_a_fixed_form() {
    let mut hasher = FingerprintHasher::new(GROUP_LEN_DEFAULT);
    assert_eq!(hasher.save_frontier(), [1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    hasher.update(&content(65_536));
    assert_eq!(hasher.save_frontier().len(), 13 + 32 + 32, "the root of the only group, and its chaining value");
    hasher.update(&[0]);
    hasher.take_groups();
    assert_eq!(hasher.save_frontier().len(), 13 + 32);
}

#[test]
fn a_group_verifies_only_as_what_it_is() {
    let group = 2 * KIB;
    let group_len = group_len(group);
    let bytes = content(3 * group + 100);
    let mut hasher = FingerprintHasher::new(group_len);
    hasher.update(&bytes);
    let values = hasher.finish().remaining.values;
    let groups: Vec<&[u8]> = bytes.chunks(group).collect();
    for (index, chunk) in groups.iter().enumerate() {
        let at = index as u64;
        assert!(verify_group(group_len, at, chunk, &values[index], false));
        assert!(!verify_group(group_len, at, chunk, &values[index], true), "not the only group");
        assert!(!verify_group(group_len, at + 1, chunk, &values[index], false), "not at another position");
        assert!(!verify_group(group_len, at, &chunk[1..], &values[index], false), "not cut");
        assert!(!verify_group(group_len, at, &[], &values[index], false), "not empty");
        for bit in [0, 7, (chunk.len() * 8) - 1] {
            let mut flipped = chunk.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!verify_group(group_len, at, &flipped, &values[index], false), "bit={bit}");
        }
    }
    // Nothing a damaged row can say leads to a panic.
    for index in 0..4 {
        assert_eq!(group_value(group_len, index, &bytes[..group + 1], false), None, "longer than a group");
    }
    assert!(!verify_group(group_len, 0, &bytes, &root_of(&bytes), true), "longer than a group");
    assert!(!verify_group(group_len, u64::MAX, groups[0], &values[0], false));
    assert!(!verify_group(group_len, 1, groups[0], &root_of(groups[0]), true));
    assert!(verify_group(group_len, 0, groups[0], &root_of(groups[0]), true));
    assert!(verify_group(group_len, 0, &[], &root_of(&[]), true));
}

#[test]
fn values_that_are_too_few_or_too_many_give_no_root() {
    let values = [[1; 32], [2; 32], [3; 32]];
    let group_len = group_len(KIB);
    for (count, total_len) in [(0, 1), (1, 0), (1, 1_025), (2, 1_024), (3, 2_048), (3, 3_073), (2, u64::MAX)] {
        assert_eq!(root_from_groups(group_len, &values[..count], total_len), None, "{count} {total_len}");
    }
    assert_eq!(root_from_groups(group_len, &[], 0), Some(root_of(&[])));
    assert_eq!(root_from_groups(group_len, &values[..1], 1_024), Some([1; 32]));
    assert!(root_from_groups(group_len, &values, 2_049).is_some());
}

#[test]
fn group_lengths() {
    for bytes in [1_024, 2_048, 65_536, 262_144, GROUP_LEN_MAX] {
        assert_eq!(GroupLen::new(bytes).unwrap().get(), bytes);
    }
    for bytes in [0, 1, 512, 1_023, 1_025, 3_072, 2 * GROUP_LEN_MAX, u32::MAX] {
        assert_eq!(GroupLen::new(bytes), Err(InvalidGroupLen { bytes }));
    }
    let group_len = GroupLen::default();
    assert_eq!(group_len, GROUP_LEN_DEFAULT);
    for (len, count) in [(0, 0), (1, 1), (65_536, 1), (65_537, 2), (u64::MAX, 1 << 48)] {
        assert_eq!(group_len.group_count(len), count);
    }
    assert_eq!((group_len.group_of(0), group_len.group_of(65_535), group_len.group_of(65_536)), (0, 0, 1));
}
