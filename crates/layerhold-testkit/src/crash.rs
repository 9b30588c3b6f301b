//! Cuts the power at every call that changes the medium, and compares what is left with the model.
//!
//! After a cut the store must open, hold what [`Judge`] demands, and go on from there.

use arbitrary::{Arbitrary as _, Unstructured};

use layerhold::call::Call;
use layerhold::check::Level;

use crate::engine::{TestEngine, memory_on};
use crate::fs::SimFileSystem;
use crate::judge::Judge;
use crate::operation::Script;
use crate::operation::request::{RegistryRequest, Request};
use crate::runner::{Disagreement, Ended, Runner};
use crate::sound::sound;

/// How far a campaign goes at each cut.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// States that one cut leaves and that are opened.
    pub states: usize,
    /// Cuts inside the recovery of one of these states, at most; another one at each cut.
    pub recovery_cuts: u64,
}

/// How much was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cuts {
    /// Places at which the power was cut.
    pub cuts: u64,
    /// States that were opened and compared, those after a cut recovery among them.
    pub states: u64,
    /// How many of them held the operation that was cut.
    pub whole: u64,
    /// Recoveries that were cut themselves.
    pub recoveries: u64,
}

impl std::ops::AddAssign for Cuts {
    fn add_assign(&mut self, other: Self) {
        self.cuts += other.cuts;
        self.states += other.states;
        self.whole += other.whole;
        self.recoveries += other.recoveries;
    }
}

/// Runs `script` once for each call that changes the medium, and cuts the power at that call.
pub fn cut_everywhere(script: &Script, budget: Budget) -> Result<Cuts, Disagreement> {
    let fs = SimFileSystem::new(1);
    let mut whole = Runner::new(memory_on(fs.clone()), script.small_limits);
    let making = fs.mutating_calls();
    whole.run(script)?;
    let mut done = Cuts::default();
    for cut in 1..=fs.mutating_calls() - making {
        done += cut_at(script, cut, budget)?;
    }
    Ok(done)
}

/// Runs `script` and cuts the power at the `cut`-th call that changes the medium, counted from when the store was made.
/// Without so many calls it is cut after the last.
pub fn cut_at(script: &Script, cut: u64, budget: Budget) -> Result<Cuts, Disagreement> {
    let fs = SimFileSystem::new(1);
    let mut runner = Runner::new(memory_on(fs.clone()), script.small_limits);
    fs.crash_at(fs.mutating_calls() + cut);
    let in_flight = run_until_cut(&mut runner, script, &fs)?;
    let scene = Scene::new(runner, in_flight, cut);
    let mut done = Cuts { cuts: 1, ..Cuts::default() };
    let states: Vec<_> = fs.crash_states(budget.states).collect();
    let cut_again = (cut % states.len().max(1) as u64) as usize;
    for (number, left) in states.into_iter().enumerate() {
        let copy = left.crash(crate::fs::CrashPolicy::KeepAll);
        let before = left.mutating_calls();
        let test = scene.open(&left, number)?;
        let recovery_calls = left.mutating_calls() - before;
        done += scene.check(&test, number)?;
        drop(test);
        if number == cut_again {
            done += scene.check_cut_recoveries(&copy, recovery_calls.min(budget.recovery_cuts), number)?;
        }
    }
    Ok(done)
}

/// The request that the cut interrupted, if it was interrupted and not only followed by the cut.
fn run_until_cut(
    runner: &mut Runner,
    script: &Script,
    fs: &SimFileSystem,
) -> Result<Option<(Request, Call)>, Disagreement> {
    for operation in &script.operations {
        match runner.step(operation)?.pop() {
            Some(Ended::Failed { request, call, .. }) if fs.crashed() => return Ok(Some((request, call))),
            Some(Ended::Failed { request, failure, .. }) => {
                return Err(runner.disagreement(&request, &format!("{failure:?}"), "no failure before the cut"));
            }
            _ if fs.crashed() => return Ok(None),
            _ => {}
        }
    }
    Ok(None)
}

/// How many of its unflushed writes the table had flushed by itself in the state with this number: none, all, or some.
fn kept(number: usize) -> usize {
    [0, usize::MAX, number / 3, 2 * number][number % 4]
}

/// What was true when the power was cut.
struct Scene {
    runner: Runner,
    judge: Judge,
    cut: u64,
}

impl Scene {
    fn new(runner: Runner, in_flight: Option<(Request, Call)>, cut: u64) -> Self {
        let judge = Judge::new(&runner, in_flight);
        Self { runner, judge, cut }
    }

    /// Opens what is left.
    fn open(&self, left: &SimFileSystem, number: usize) -> Result<TestEngine, Disagreement> {
        let opened = self.runner.test.on_what_is_left(left.clone(), kept(number));
        opened.map_err(|error| self.wrong(number, &format!("does not open: {error:?}"), "opens"))
    }

    /// Compares it.
    fn check(&self, test: &TestEngine, number: usize) -> Result<Cuts, Disagreement> {
        let judged = self.judge.look(test).and_then(|found| self.judge.ask_again(test).map(|()| found));
        let found = judged.map_err(|wrong| self.wrong(number, &wrong.found, &wrong.expected))?;
        if let Err(found) = sound(test.engine(), Level::Bytes) {
            return Err(self.wrong(number, &format!("the check finds\n{found}"), "a sound store"));
        }
        Ok(Cuts { states: 1, whole: u64::from(found.after && self.judge.in_flight().is_some()), ..Cuts::default() })
    }

    /// Cuts the recovery of `left` at each of its calls, and then opens what that leaves.
    fn check_cut_recoveries(&self, left: &SimFileSystem, calls: u64, number: usize) -> Result<Cuts, Disagreement> {
        let mut done = Cuts::default();
        for call in 1..=calls {
            let again = left.crash(crate::fs::CrashPolicy::KeepAll);
            again.crash_at(again.mutating_calls() + call);
            if self.runner.test.on_what_is_left(again.clone(), kept(number)).is_err() && !again.crashed() {
                return Err(self.wrong(number, "recovery fails without a cut", "opens"));
            }
            done.recoveries += 1;
            for left in again.crash_states(2) {
                done += self.check(&self.open(&left, number)?, number)?;
            }
        }
        Ok(done)
    }

    fn wrong(&self, number: usize, found: &str, expected: &str) -> Disagreement {
        let maintain = Request::Registry(RegistryRequest::Maintain);
        let request = self.judge.in_flight().unwrap_or(&maintain);
        let mut wrong = self.runner.disagreement(request, found, expected);
        wrong.report = format!("power cut at mutating call {}, state {number}: {}", self.cut, wrong.report);
        wrong
    }
}

/// Cuts the power everywhere in each of `count` short random scripts.
pub fn random_scripts(seed: u64, count: u64, budget: Budget) -> Result<Cuts, Disagreement> {
    let mut done = Cuts::default();
    for number in 0..count {
        done += random_script(seed, number, budget)?;
    }
    Ok(done)
}

/// Cuts the power everywhere in the short random script with this number.
pub fn random_script(seed: u64, number: u64, budget: Budget) -> Result<Cuts, Disagreement> {
    let bytes = crate::operation::pool::noise(seed.wrapping_add(number.wrapping_mul(0x9e37_79b9)), 400);
    let script = Script::arbitrary_take_rest(Unstructured::new(&bytes)).expect("enough bytes");
    cut_everywhere(&script, budget).map_err(|mut wrong| {
        wrong.report = format!("script {number}: {}\n{}", wrong.report, crate::campaign::to_json(&script));
        wrong
    })
}
