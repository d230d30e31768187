//! Ready work and a sleeping claimant never come together for good.

use super::*;

/// Claimants that take one task each, and those that publish as many tasks: all get to the end.
fn all_find_work(preemptions: usize, spins: bool, claimants: u32, rings: &'static [u32]) {
    let count = if rings.contains(&RETRY) { 2 } else { 1 };
    explore_with(count, Some(preemptions), move |world| {
        for (cell, &ring) in rings.iter().enumerate() {
            if ring == RETRY {
                let held = State::new(CLAIMED, MAIN, 9, 7).pack();
                world.cell(cell as u32).store(held, Ordering::Relaxed);
            }
        }
        let workers: Vec<_> = (1..=claimants)
            .map(|owner_id| {
                process(&world, move |world| world.work(owner_id, spins && owner_id == 1))
            })
            .collect();
        let supervisor = rings
            .contains(&RETRY)
            .then(|| process(&world, move |world| publish_into(RETRY, world, rings)));
        publish_into(MAIN, &world, rings);
        supervisor.map(|supervisor| supervisor.join().unwrap());
        let mut done: Vec<_> = workers.into_iter().filter_map(|w| w.join().unwrap()).collect();
        done.sort_unstable();
        assert_eq!(done, (0..claimants).collect::<Vec<_>>());
    });
}

fn publish_into(mine: u32, world: &World, rings: &[u32]) {
    let cells = (0..).zip(rings).filter(|&(_, &ring)| ring == mine);
    cells.for_each(|(cell, &ring)| world.publish(ring, cell));
}

#[test]
fn one_sleeper() {
    all_find_work(4, false, 1, &[MAIN]);
}

#[test]
fn two_sleepers() {
    all_find_work(2, false, 2, &[MAIN, MAIN]);
}

#[test]
fn two_producers() {
    all_find_work(2, false, 2, &[MAIN, RETRY]);
}

#[test]
fn three_sleepers() {
    all_find_work(1, false, 3, &[MAIN, MAIN, MAIN]);
}

#[test]
fn one_spinner() {
    all_find_work(4, true, 1, &[MAIN]);
}

#[test]
fn spinner_and_sleeper() {
    all_find_work(2, true, 2, &[MAIN, MAIN]);
}

#[test]
fn spinner_and_sleeper_and_two_producers() {
    all_find_work(2, true, 2, &[MAIN, RETRY]);
}

/// A ringer that dies anywhere between publishing and waking is followed by a call for all.
#[test]
fn a_dead_ringer_is_answered_for() {
    for steps in 0..3 {
        explore_with(1, Some(2), move |world| {
            let sleepers =
                [1, 2].map(|owner_id| process(&world, move |world| world.work(owner_id, false)));
            world.push(MAIN, 0);
            if steps > 0 {
                world.wake_word.count.fetch_add(1, Ordering::SeqCst);
            }
            if steps > 1 {
                world.wake_word.sleeping.store(0, Ordering::SeqCst);
            }
            world.wake_all();
            world.publish(MAIN, 1);
            let mut done = sleepers.map(|sleeper| sleeper.join().unwrap());
            done.sort_unstable();
            assert_eq!(done, [Some(0), Some(1)]);
        });
    }
}

#[test]
fn closing_reaches_everybody() {
    explore_with(1, Some(3), |world| {
        let workers =
            [1, 2].map(|owner_id| process(&world, move |world| world.work(owner_id, true)));
        world.closing.store(1, Ordering::SeqCst);
        world.wake_all();
        assert_eq!(workers.map(|worker| worker.join().unwrap()), [None, None]);
    });
}
