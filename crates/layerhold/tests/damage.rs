//! Damage to any file of a store: what opening decides, what can still be seen, and what an operator can choose.
//!
//! Whole stores in memory, the table a file as well. Whatever is done to one file, opening gives the store as it was, or a
//! refusal that names the damage and changes nothing; then a read-only opening shows a state that there once was, and
//! each choice leads to a store that opens and holds what it was said to hold.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test tells what went wrong")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use layerhold::change::Event;
use layerhold::directory::Place;
use layerhold::name::Principal;
use layerhold::recovery::{self, Choice, Examination, Part, Verdict};
use layerhold::store::fs::FileSystem;
use layerhold::{Components, Engine, ErrorKind, Opening, StorageError};
use layerhold_testkit::engine::ManualClock;
use layerhold_testkit::file_table::FileTableHome;
use layerhold_testkit::fs::{Call, CrashPolicy, FailingFileSystem, Failure, Fault, Repeat, SimFileSystem, damage};
use layerhold_testkit::witness::{Witness, small_options};

fn place(fs: &SimFileSystem) -> Place {
    let shared: Arc<dyn FileSystem> = Arc::new(fs.clone());
    Place::new(Arc::clone(&shared), Arc::new(FileTableHome::new(shared)))
}

fn components() -> Components {
    Components { spawner: None, ..Components::default() }
}

fn open(fs: &SimFileSystem) -> Result<Engine, StorageError> {
    Engine::open_in(&place(fs), small_options(), components())
}

fn examine(fs: &SimFileSystem) -> Examination {
    recovery::examine_in(&place(fs)).unwrap()
}

fn by() -> Principal {
    Principal::parse("operator").unwrap()
}

fn choose(fs: &SimFileSystem, choice: Choice) -> Result<recovery::Recovered, recovery::RecoveryError> {
    let (place, options, components) = (place(fs), small_options(), components());
    match choice {
        Choice::AcceptLoss => {
            let agreed = recovery::examine_in(&place)?.agreed();
            recovery::accept_loss_in(&place, &options, &components, &by(), agreed)
        }
        _ => recovery::restore_in(&place, &options, &components, &by()),
    }
}

/// A store at rest, with what must be found in it.
struct Rest {
    name: String,
    fs: SimFileSystem,
    witness: Witness,
}

/// Stores whose journal still begins with the first change, and such whose table was flushed and whose journal was not
/// needed any more; closed, and killed.
fn at_rest() -> Vec<Rest> {
    let mut rests = Vec::new();
    for (name, rounds) in [("young", [1, 0]), ("grown", [14, 3])] {
        for closed in [true, false] {
            let fs = SimFileSystem::new(7);
            let engine = Engine::create_in(&place(&fs), small_options(), components()).unwrap();
            let mut witness = Witness::begin(&engine).unwrap();
            for images in rounds {
                witness.work(&engine, images).unwrap();
                engine.maintain().unwrap();
            }
            witness.work(&engine, 1).unwrap();
            if closed {
                engine.close().unwrap();
            }
            drop(engine);
            rests.push(Rest { name: format!("{name}, closed {closed}"), fs: fs.kill(), witness });
        }
    }
    rests
}

#[derive(Debug, Default)]
struct Tally {
    cases: usize,
    harmless: usize,
    refused: usize,
    restored: usize,
    accepted: usize,
    shown: usize,
    /// Things that said of themselves that they are damaged.
    damaged: usize,
}

/// What there is apart from the lock, whose contents say who looked last.
fn state(fs: &SimFileSystem) -> Vec<(PathBuf, Vec<u8>)> {
    let files = damage::files(fs).unwrap().into_iter().filter(|path| path != Path::new("LOCK"));
    files.map(|path| (path.clone(), damage::read(fs, &path).unwrap())).collect()
}

fn judge(rest: &Rest, fs: &SimFileSystem, what: &str, tally: &mut Tally) {
    let what = format!("{}: {what}", rest.name);
    tally.cases += 1;
    let before = state(fs);
    let examination = examine(fs);
    assert_eq!(state(fs), before, "{what}: looking changed the store");
    match open(fs) {
        Ok(engine) => {
            assert!(examination.is_sound(), "{what}: {examination:?}");
            assert_eq!(engine.sequence(), rest.witness.sequence, "{what}");
            let found = rest.witness.check(&engine, rest.witness.sequence);
            tally.damaged += found.unwrap_or_else(|wrong| panic!("{what}: {wrong}")).damaged;
            tally.harmless += 1;
            return;
        }
        Err(StorageError::Corrupt { .. } | StorageError::UnknownFormat { .. }) => {}
        Err(StorageError::AcknowledgedDataLoss { expected, recovered }) => {
            let said = (examination.verdict, examination.expected, examination.recovered);
            assert_eq!(said, (Verdict::Loss, Some(expected), recovered), "{what}: the refusal says something else");
        }
        Err(other) => panic!("{what}: {other:?}"),
    }
    tally.refused += 1;
    assert_eq!(state(fs), before, "{what}: a refused store was changed");
    assert!(!examination.is_sound(), "{what}: {examination:?}");
    let loss = examination.expected.is_none_or(|expected| expected > examination.recovered);
    assert_eq!(examination.verdict == Verdict::Loss, loss, "{what}: {examination:?}");
    assert!(loss || !examination.damages.is_empty(), "{what}: {examination:?}");
    assert!(!examination.choices.is_empty(), "{what}: {examination:?}");

    match Engine::open_read_only_in(&place(fs), small_options(), components()) {
        Ok(engine) => {
            assert!(examination.readable, "{what}");
            assert_eq!((engine.sequence(), engine.opening()), (examination.recovered, Opening::ReadOnly), "{what}");
            let found = rest.witness.check(&engine, examination.recovered);
            tally.damaged += found.unwrap_or_else(|wrong| panic!("{what}, read-only: {wrong}")).damaged;
            let refused = rest.witness.clone().work(&engine, 1).unwrap_err();
            assert!(refused.to_string().contains("read-only"), "{what}: {refused}");
            tally.shown += 1;
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{what}: {error:?}");
            assert!(!examination.readable, "{what}: {error:?}");
        }
    }
    assert_eq!(state(fs), before, "{what}: a read-only opening changed the store");

    for choice in &examination.choices {
        let fs = fs.kill();
        carry_out(rest, &fs, *choice, &examination, &what);
        match choice {
            Choice::Restore => tally.restored += 1,
            _ => tally.accepted += 1,
        }
    }
}

fn carry_out(rest: &Rest, fs: &SimFileSystem, choice: Choice, examination: &Examination, what: &str) {
    let what = format!("{what}, {choice}");
    let recovered = choose(fs, choice).unwrap_or_else(|e| panic!("{what}: {e:?}, {examination:?}"));
    let engine = open(fs).unwrap_or_else(|e| panic!("{what}: {e:?}"));
    check_outcome(rest, &engine, &recovered, examination, &what);
    assert!(matches!(choose(fs, choice), Err(recovery::RecoveryError::Storage(StorageError::Locked { .. }))));
    drop(engine);
    assert!(matches!(choose(fs, choice), Err(recovery::RecoveryError::Sound)), "{what}");
}

fn check_outcome(rest: &Rest, engine: &Engine, recovered: &recovery::Recovered, examination: &Examination, what: &str) {
    assert_eq!((recovered.expected, recovered.recovered), (examination.expected, examination.recovered), "{what}");
    assert_eq!(engine.sequence(), recovered.sequence, "{what}");
    let kept = recovered.recovered;
    if recovered.choice == Choice::Restore {
        assert_eq!(
            (kept, recovered.sequence),
            (rest.witness.sequence, kept + 1),
            "{what}: a restored store lost something"
        );
    } else {
        assert!(recovered.sequence > rest.witness.sequence + 1_000_000, "{what}: a sequence could be used again");
    }
    let found = rest.witness.check(engine, kept);
    found.unwrap_or_else(|wrong| panic!("{what}: {wrong}"));
    let change = engine.changes(recovered.sequence - 1, 1).unwrap().remove(0);
    assert_eq!(change.principal, by(), "{what}");
    let event =
        Event::Recovered { choice: recovered.choice, expected: examination.expected, recovered: examination.recovered };
    assert_eq!(change.event, event, "{what}");
    // It goes on, and what comes is there after a kill.
    let mut witness = if kept == 0 { Witness::begin(engine).unwrap() } else { rest.witness.at(kept) };
    if kept > 0 && kept < 3 {
        return;
    }
    witness.work(engine, 1).unwrap();
    assert!(witness.sequence > recovered.sequence, "{what}");
    witness.check(engine, witness.sequence).unwrap_or_else(|wrong| panic!("{what}, going on: {wrong}"));
}

/// Bytes up to the last one that is not zero.
fn used(bytes: &[u8]) -> u64 {
    bytes.iter().rposition(|&byte| byte != 0).map_or(0, |at| at as u64 + 1)
}

fn files(fs: &SimFileSystem) -> Vec<(PathBuf, Vec<u8>)> {
    let files = damage::files(fs).unwrap();
    files.into_iter().map(|path| (path.clone(), damage::read(fs, &path).unwrap())).collect()
}

#[test]
fn every_file_flipped_cut_zeroed_or_grown() {
    let mut tally = Tally::default();
    for rest in at_rest() {
        for (path, bytes) in files(&rest.fs) {
            let used = used(&bytes);
            let name = path.display();
            let mut damaged = |kind: &str, at: u64, harm: &dyn Fn(&SimFileSystem)| {
                let fs = rest.fs.kill();
                harm(&fs);
                judge(&rest, &fs, &format!("{name} {kind} {at}"), &mut tally);
            };
            for bit in (0..used * 8).step_by(usize::try_from((used * 8 / 24).max(1)).unwrap()) {
                damaged("bit", bit, &|fs| damage::flip_bit(fs, &path, bit).unwrap());
            }
            for at in (0..used).step_by(usize::try_from((used / 6).max(1)).unwrap()) {
                damaged("zeroed from", at, &|fs| damage::zero(fs, &path, at, bytes.len() - at as usize).unwrap());
                damaged("cut to", at, &|fs| damage::truncate(fs, &path, at).unwrap());
            }
            damaged("grown", 0, &|fs| damage::append(fs, &path, &[0x5a; 700]).unwrap());
        }
    }
    println!("{tally:?}");
    assert!(tally.refused > 500 && tally.restored > 200 && tally.accepted > 300 && tally.damaged > 50, "{tally:?}");
}

#[test]
fn every_file_deleted_or_swapped_with_another() {
    let mut tally = Tally::default();
    for rest in at_rest() {
        let files = files(&rest.fs);
        for (number, (path, _)) in files.iter().enumerate() {
            let fs = rest.fs.kill();
            damage::delete(&fs, path).unwrap();
            judge(&rest, &fs, &format!("{} deleted", path.display()), &mut tally);
            for (other, _) in files.iter().skip(number + 1) {
                let fs = rest.fs.kill();
                damage::swap(&fs, path, other).unwrap();
                judge(&rest, &fs, &format!("{} and {} swapped", path.display(), other.display()), &mut tally);
            }
        }
    }
    println!("{tally:?}");
    assert!(tally.refused > 100, "{tally:?}");
}

#[test]
fn whole_parts_that_are_gone_are_damage_and_never_an_empty_or_a_new_store() {
    let mut tally = Tally::default();
    let parts = ["FORMAT", "LOCK", "journal", "table", "blobs"];
    for rest in at_rest() {
        // Every set of parts but all of them.
        for gone in 1_u32..(1 << parts.len()) - 1 {
            let fs = rest.fs.kill();
            for (path, _) in files(&rest.fs) {
                let part = parts.iter().position(|part| path.starts_with(part));
                if part.is_some_and(|part| gone >> part & 1 == 1) {
                    damage::delete(&fs, &path).unwrap();
                }
            }
            let what = format!("without {gone:05b} of {parts:?}");
            let created = Engine::create_in(&place(&fs), small_options(), components());
            assert!(matches!(created, Err(StorageError::NotEmpty { .. })), "{what}");
            judge(&rest, &fs, &what, &mut tally);
        }
    }
    println!("{tally:?}");
    assert!(tally.refused > 100, "{tally:?}");
}

#[test]
fn whole_directories_that_are_gone_are_damage_and_what_they_held_is_not_claimed_to_be_there() {
    let mut tally = Tally::default();
    let directories = ["journal", "table", "blobs"];
    for rest in at_rest() {
        for gone in 1_u32..1 << directories.len() {
            let fs = rest.fs.kill();
            for (number, directory) in directories.iter().enumerate() {
                if gone >> number & 1 == 1 {
                    fs.delete_directory(Path::new(directory)).unwrap();
                }
            }
            let what = format!("without the directories {gone:03b} of {directories:?}");
            let examination = examine(&fs);
            // There are blobs in files, so nothing brings that directory back.
            let restorable = examination.choices.contains(&Choice::Restore);
            assert!(!restorable || gone & 0b100 == 0, "{}: {what}: {examination:?}", rest.name);
            judge(&rest, &fs, &what, &mut tally);
        }
    }
    println!("{tally:?}");
    assert!(tally.refused == 28 && tally.restored > 0, "{tally:?}");
}

#[test]
fn an_old_mark_is_not_taken_for_the_end_of_the_journal() {
    let fs = SimFileSystem::new(7);
    let shared: Arc<dyn FileSystem> = Arc::new(fs.clone());
    let place = Place::new(Arc::clone(&shared), Arc::new(FileTableHome::new(shared).flushing_every(4)));
    let engine = Engine::create_in(&place, small_options(), components()).unwrap();
    let mut witness = Witness::begin(&engine).unwrap();
    let mut early = false;
    for _ in 0..6 {
        witness.work(&engine, 1).unwrap();
        // Nothing synced the mark, and the table was flushed a while ago.
        let left = fs.crash(CrashPolicy::DropUnsynced);
        let segments =
            files(&left).into_iter().filter(|(path, _)| path.starts_with("journal") && !path.ends_with("mark"));
        for (path, _) in segments {
            damage::delete(&left, &path).unwrap();
        }
        let examination = examine(&left);
        early |= examination.recovered > 0 && examination.recovered < witness.sequence;
        assert_eq!(examination.choices, [Choice::AcceptLoss], "{examination:?}");
    }
    assert!(early, "there is something to be lost");

    // A close says where the end is. What comes after the next opening takes it back.
    engine.close().unwrap();
    drop(engine);
    let without_segments = |fs: &SimFileSystem| {
        for (path, _) in
            files(fs).into_iter().filter(|(path, _)| path.starts_with("journal") && !path.ends_with("mark"))
        {
            damage::delete(fs, &path).unwrap();
        }
        examine(fs)
    };
    let closed = fs.kill();
    let engine = open(&closed).unwrap();
    let mark = damage::read(&closed.crash(CrashPolicy::DropUnsynced), Path::new("journal/mark")).unwrap();
    witness.work(&engine, 1).unwrap();
    let left = closed.crash(CrashPolicy::DropUnsynced);
    assert_ne!(damage::read(&left, Path::new("journal/mark")).unwrap(), mark);
    assert_eq!(without_segments(&left).choices, [Choice::AcceptLoss]);
}

#[test]
fn a_second_loss_of_everything_uses_no_sequence_again() {
    let rest = at_rest().remove(0);
    let fs = rest.fs.kill();
    let clock = ManualClock::default();
    let components = || Components { clock: Arc::new(clock.clone()), ..components() };
    let mut last = rest.witness.sequence;
    for loss in 0..4 {
        if loss == 3 {
            // Nobody knows of the earlier ones any more; time has passed.
            for (path, _) in files(&fs).into_iter().filter(|(path, _)| path.to_string_lossy().starts_with("aside-")) {
                damage::delete(&fs, &path).unwrap();
            }
            for number in 1..4 {
                fs.delete_directory(Path::new(&format!("aside-{number}"))).unwrap();
            }
            clock.advance(3_600_000);
        }
        for (path, _) in
            files(&fs).into_iter().filter(|(path, _)| path.starts_with("journal") || path.starts_with("table"))
        {
            damage::delete(&fs, &path).unwrap();
        }
        let examination = examine(&fs);
        assert_eq!(examination.expected, None);
        let agreed = examination.agreed();
        let chosen = recovery::accept_loss_in(&place(&fs), &small_options(), &components(), &by(), agreed).unwrap();
        assert!(chosen.sequence > last, "loss {loss}: {} after {last}", chosen.sequence);
        assert!(chosen.sequence < 1 << 53, "hosts count in floating point");
        let engine = Engine::open_in(&place(&fs), small_options(), components()).unwrap();
        Witness::begin(&engine).unwrap().work(&engine, 20).unwrap();
        last = engine.sequence();
    }
}

#[test]
fn a_store_whose_parts_belong_to_two_goes_on_as_the_one_of_its_table() {
    let mut others = at_rest().into_iter();
    let (rest, other) = (others.next_back().unwrap(), others.next_back().unwrap());
    for mark_too in [false, true] {
        let fs = rest.fs.kill();
        damage::delete(&fs, Path::new("FORMAT")).unwrap();
        let is_taken = |path: &Path| path.starts_with("journal") && (mark_too || !path.ends_with("mark"));
        for (path, _) in files(&fs).into_iter().filter(|(path, _)| is_taken(path)) {
            damage::delete(&fs, &path).unwrap();
        }
        for (path, bytes) in files(&other.fs).into_iter().filter(|(path, _)| is_taken(path)) {
            fs.create_new(&path).unwrap().write_all_at(&bytes, 0).unwrap();
        }
        fs.settle();
        let examination = examine(&fs);
        assert_eq!(examination.choices, [Choice::AcceptLoss], "{examination:?}");
        assert!(examination.recovered > 0, "{examination:?}");
        let engine = lead_out(&fs, "two stores");
        rest.witness.check(&engine, examination.recovered).unwrap();
    }
}

#[test]
fn what_was_never_a_store_or_never_became_one_is_said_to_be_none() {
    let refused = |fs: &SimFileSystem| {
        for error in [open(fs).unwrap_err(), recovery::examine_in(&place(fs)).unwrap_err()] {
            assert!(matches!(error, StorageError::NotAStore { .. }), "{error:?}");
        }
    };
    let fs = SimFileSystem::new(1);
    refused(&fs);
    for name in ["notes.txt", "LOCK"] {
        let file = fs.create_new(Path::new(name)).unwrap();
        file.write_all_at(b"another program's own", 0).unwrap();
        refused(&fs);
    }
    // A making that was cut off at any call is none either, until it was done.
    let whole = SimFileSystem::new(2);
    drop(Engine::create_in(&place(&whole), small_options(), components()).unwrap());
    let mut interrupted = 0;
    for cut in 1..=whole.mutating_calls() {
        let fs = SimFileSystem::new(2);
        fs.crash_at(cut);
        Engine::create_in(&place(&fs), small_options(), components()).unwrap_err();
        for left in fs.crash_states(8) {
            match open(&left) {
                Ok(engine) => assert_eq!(engine.sequence(), 1),
                Err(StorageError::NotAStore { .. }) => interrupted += 1,
                Err(error) => panic!("cut {cut}: {error:?}"),
            }
        }
    }
    assert!(interrupted > 50, "{interrupted}");
}

/// What a killed process had not synced, a power cut takes back, however much was acknowledged by others since.
#[test]
fn what_opens_after_a_kill_is_a_store_for_good() {
    let opens_for_good = |fs: &SimFileSystem, what: &str| {
        let engine = match open(fs) {
            Ok(engine) => engine,
            Err(StorageError::NotAStore { .. } | StorageError::Corrupt { .. }) => return 0,
            Err(error) => panic!("{what}: {error:?}"),
        };
        let mut witness = Witness::begin(&engine).unwrap();
        witness.work(&engine, 1).unwrap();
        drop(engine);
        let engine = open(&fs.crash(CrashPolicy::DropUnsynced)).unwrap_or_else(|error| panic!("{what}: {error:?}"));
        witness.check(&engine, witness.sequence).unwrap_or_else(|wrong| panic!("{what}: {wrong}"));
        1
    };
    let whole = SimFileSystem::new(2);
    drop(Engine::create_in(&place(&whole), small_options(), components()).unwrap());
    let mut opened = 0;
    for cut in 1..=whole.mutating_calls() {
        let fs = SimFileSystem::new(2);
        fs.crash_at(cut);
        Engine::create_in(&place(&fs), small_options(), components()).unwrap_err();
        opened += opens_for_good(&fs.kill(), &format!("making, killed at call {cut}"));
    }
    assert!(opened > 0);
    let harmed = whole.kill();
    damage::delete(&harmed, Path::new("FORMAT")).unwrap();
    harmed.settle();
    let restored = harmed.kill();
    choose(&restored, Choice::Restore).unwrap();
    let mut opened = 0;
    for cut in 1..=restored.mutating_calls() {
        let fs = harmed.kill();
        fs.crash_at(cut);
        choose(&fs, Choice::Restore).unwrap_err();
        opened += opens_for_good(&fs.kill(), &format!("restore, killed at call {cut}"));
    }
    assert!(opened > 0);
}

fn last_segment(fs: &SimFileSystem) -> (PathBuf, Vec<u8>) {
    files(fs).into_iter().rfind(|(path, _)| path.to_string_lossy().contains("journal/0")).unwrap()
}

type Harm<'a> = &'a dyn Fn(&SimFileSystem);

/// Damaged stores, each with the choice that is made for it.
fn wrecks() -> Vec<(Rest, Examination, Choice)> {
    let harms: [(&str, Choice, Harm<'_>); 5] = [
        ("no FORMAT, no mark", Choice::Restore, &|fs| {
            damage::delete(fs, Path::new("FORMAT")).unwrap();
            damage::delete(fs, Path::new("journal/mark")).unwrap();
        }),
        ("a damaged header of the last segment", Choice::Restore, &|fs| {
            damage::flip_bit(fs, &last_segment(fs).0, 300).unwrap();
        }),
        ("a damaged last group", Choice::AcceptLoss, &|fs| {
            let (path, bytes) = last_segment(fs);
            damage::flip_bit(fs, &path, (used(&bytes) - 200) * 8).unwrap();
        }),
        ("no table", Choice::Restore, &|fs| damage::delete(fs, Path::new("table/rows")).unwrap()),
        ("no journal and no table", Choice::AcceptLoss, &|fs| {
            for (path, _) in
                files(fs).iter().filter(|(path, _)| path.starts_with("journal") || path.starts_with("table"))
            {
                damage::delete(fs, path).unwrap();
            }
        }),
    ];
    let mut wrecks = Vec::new();
    for rest in at_rest() {
        for (name, choice, harm) in &harms {
            let fs = rest.fs.crash(CrashPolicy::KeepAll);
            harm(&fs);
            let examination = examine(&fs);
            if examination.choices.contains(choice) {
                let name = format!("{}: {name}", rest.name);
                let (witness, fs) = (rest.witness.clone(), fs.kill());
                wrecks.push((Rest { name, fs, witness }, examination, *choice));
            }
        }
    }
    wrecks
}

/// Opens what a cut choice left, once the choice was made again where it has to be.
fn finish(rest: &Rest, fs: &SimFileSystem, choice: Choice, examination: &Examination, what: &str) {
    let left = examine(fs);
    if !left.is_sound() {
        assert!(left.choices.contains(&choice), "{what}: {left:?}");
        assert!(open(fs).is_err(), "{what}");
        choose(fs, choice).unwrap_or_else(|e| panic!("{what}: {e:?}"));
    }
    let engine = open(fs).unwrap_or_else(|e| panic!("{what}: {e:?}"));
    let changes = engine.changes(0, 1_000).unwrap();
    let events: Vec<_> = changes.iter().filter(|change| matches!(change.event, Event::Recovered { .. })).collect();
    assert_eq!(events.len(), 1, "{what}: it was chosen once");
    let Event::Recovered { expected, recovered, .. } = events[0].event else { unreachable!() };
    assert_eq!((expected, recovered), (examination.expected, examination.recovered), "{what}");
    assert_eq!(engine.sequence(), events[0].sequence, "{what}");
    rest.witness.check(&engine, recovered).unwrap_or_else(|wrong| panic!("{what}: {wrong}"));
}

/// Cuts the choice at each of its calls, and hands on what each cut may leave.
fn cut(fs: &SimFileSystem, choice: Choice, states: usize, step: usize, left: &mut dyn FnMut(SimFileSystem, u64)) {
    for call in (1..).step_by(step) {
        let fs = fs.kill();
        fs.crash_at(call);
        let ended = choose(&fs, choice);
        for state in fs.crash_states(states) {
            left(state, call);
        }
        if !fs.crashed() {
            ended.unwrap();
            return;
        }
    }
}

#[test]
fn a_choice_that_is_cut_anywhere_twice_over_is_finished_by_making_it_again() {
    let (mut cuts, mut second) = (0, 0);
    for (number, (rest, examination, choice)) in wrecks().into_iter().enumerate() {
        cut(&rest.fs, choice, 6, 1, &mut |state, call| {
            cuts += 1;
            let what = format!("{}, {choice} cut at {call}", rest.name);
            let again = state.kill();
            finish(&rest, &state, choice, &examination, &what);
            // Inside the second run as well: a part of the places in each, all of them over the stores together.
            if !examine(&again).is_sound() && (call as usize + number).is_multiple_of(13) {
                cut(&again, choice, 3, 3, &mut |state, second_call| {
                    second += 1;
                    finish(&rest, &state, choice, &examination, &format!("{what} and at {second_call}"));
                });
            }
        });
    }
    println!("{cuts} states after a cut, {second} after a second one");
    assert!(cuts > 1_000 && second > 1_000, "{cuts}, {second}");
}

#[test]
fn a_choice_that_does_not_fit_changes_nothing() {
    for (rest, examination, choice) in wrecks() {
        let before = state(&rest.fs);
        if choice == Choice::AcceptLoss {
            let refused = choose(&rest.fs, Choice::Restore).unwrap_err();
            assert!(matches!(refused, recovery::RecoveryError::NotPossible { .. }), "{}: {refused:?}", rest.name);
            let agreed = recovery::Agreed { recovered: examination.recovered + 1, ..examination.agreed() };
            let (place, options, components) = (place(&rest.fs), small_options(), components());
            let refused = recovery::accept_loss_in(&place, &options, &components, &by(), agreed).unwrap_err();
            assert!(matches!(refused, recovery::RecoveryError::Changed { .. }), "{}: {refused:?}", rest.name);
        }
        assert_eq!(state(&rest.fs), before, "{}", rest.name);
        // One that is under way keeps the other out.
        if choice == Choice::Restore {
            let fs = rest.fs.kill();
            fs.crash_at(25);
            drop(choose(&fs, choice));
            let left = fs.crash(CrashPolicy::KeepAll);
            if examine(&left).unfinished == Some(choice) {
                let refused = choose(&left, Choice::AcceptLoss).unwrap_err();
                assert!(matches!(refused, recovery::RecoveryError::NotPossible { .. }), "{}: {refused:?}", rest.name);
            }
        }
    }
}

/// Makes the first choice that is offered until the store opens, and opens it.
fn lead_out(fs: &SimFileSystem, what: &str) -> Engine {
    for _ in 0..3 {
        let left = examine(fs);
        if left.is_sound() {
            break;
        }
        choose(fs, left.choices[0]).unwrap_or_else(|e| panic!("{what}: {e:?}, {left:?}"));
    }
    open(fs).unwrap_or_else(|e| panic!("{what}: {e:?}"))
}

/// A store without its table, and the choice that makes it anew out of the journal.
fn without_table() -> Rest {
    let mut rests = at_rest().into_iter().filter(|rest| rest.name == "young, closed true");
    let rest = rests.next().unwrap();
    damage::delete(&rest.fs, Path::new("table/rows")).unwrap();
    assert_eq!(examine(&rest.fs).choices[0], Choice::Restore);
    rest
}

#[test]
fn a_filled_table_is_kept_when_the_medium_fails_for_once() {
    let rest = without_table();
    let mut failures = 0;
    cut(&rest.fs, Choice::Restore, 1, 1, &mut |_, call| {
        let left = rest.fs.kill();
        left.crash_at(call);
        drop(choose(&left, Choice::Restore));
        let left = left.crash(CrashPolicy::KeepAll);
        if examine(&left).is_sound() {
            return;
        }
        for nth in 1.. {
            let fs = left.kill();
            let failing = FailingFileSystem::over(&fs);
            failing.arm(Fault { call: Some(Call::Open), nth, failure: Failure::Eio, repeat: Repeat::Once });
            let shared: Arc<dyn FileSystem> = Arc::new(failing.clone());
            let place = Place::new(Arc::clone(&shared), Arc::new(FileTableHome::new(shared)));
            let ended = recovery::restore_in(&place, &small_options(), &components(), &by());
            if failing.fired() == 0 {
                ended.unwrap();
                break;
            }
            failures += 1;
            let what = format!("cut at {call}, call {nth} of the second run failed");
            let engine = lead_out(&fs, &what);
            rest.witness.check(&engine, rest.witness.sequence).unwrap_or_else(|wrong| panic!("{what}: {wrong}"));
        }
    });
    assert!(failures > 500, "{failures}");
}

#[test]
fn a_choice_that_can_no_longer_be_finished_makes_room_for_another() {
    let rest = without_table();
    let mut hopeless = 0;
    cut(&rest.fs, Choice::Restore, 4, 1, &mut |fs, call| {
        let rows = Path::new("table/rows");
        if fs.file_len(rows).is_err() {
            return;
        }
        damage::flip_bit(&fs, rows, 100).unwrap();
        let what = format!("cut at {call} and the table damaged");
        let examination = examine(&fs);
        hopeless += usize::from(examination.damages.iter().any(|damage| damage.part == Part::Recovery));
        let engine = lead_out(&fs, &what);
        let kept = examination.recovered.min(rest.witness.sequence);
        rest.witness.check(&engine, kept).unwrap_or_else(|wrong| panic!("{what}: {wrong}"));
    });
    assert!(hopeless > 10, "{hopeless}");
}

#[test]
fn a_choice_is_not_written_down_where_there_is_no_room_for_it() {
    const FREE: u64 = 256 << 10;
    for rest in at_rest() {
        let fs = rest.fs.kill();
        let segment = last_segment(&fs).0;
        damage::delete(&fs, &segment).unwrap();
        let examination = examine(&fs);
        if examination.is_sound() {
            continue;
        }
        let before = state(&fs);
        fs.set_capacity(before.iter().map(|(_, bytes)| bytes.len() as u64).sum());
        let options = small_options().with_free_bytes_min(FREE);
        let agreed = examination.agreed();
        let refused = recovery::accept_loss_in(&place(&fs), &options, &components(), &by(), agreed).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::NoSpace, "{}: {refused:?}", rest.name);
        assert_eq!(state(&fs), before, "{}", rest.name);
    }
}

#[test]
fn a_file_that_comes_back_before_a_choice_is_carried_out_is_made_use_of() {
    let mut back = 0;
    for rest in at_rest() {
        for (gone, bytes) in files(&rest.fs) {
            let harmed = rest.fs.kill();
            damage::delete(&harmed, &gone).unwrap();
            let examination = examine(&harmed);
            if !examination.choices.contains(&Choice::AcceptLoss) {
                continue;
            }
            cut(&harmed, Choice::AcceptLoss, 2, 4, &mut |fs, call| {
                let left = examine(&fs);
                if left.unfinished.is_none() || fs.file_len(&gone).is_ok() {
                    return;
                }
                let Ok(file) = fs.create_new(&gone) else { return };
                file.write_all_at(&bytes, 0).unwrap();
                let what = format!("{}: {} came back after a cut at {call}", rest.name, gone.display());
                let now = examine(&fs);
                // Once the table holds the event, what was planned is done.
                let done = now.recovered > rest.witness.sequence;
                let recovered = if done { examination.recovered } else { now.recovered };
                let engine = lead_out(&fs, &what);
                rest.witness.check(&engine, recovered).unwrap_or_else(|wrong| panic!("{what}: {wrong}, {now:?}"));
                back += usize::from(recovered > examination.recovered);
            });
        }
    }
    assert!(back > 20, "{back}");
}
