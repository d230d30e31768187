//! A sleeper on a task's word is woken at its end, whatever happens to the task before.

use super::*;

fn claimed(world: &World) -> State {
    let state = State::new(CLAIMED, MAIN, 1, 0);
    world.cell(0).store(state.pack(), Ordering::Relaxed);
    state
}

#[test]
fn no_sleeper_is_missed() {
    explore(Some(3), |world| {
        let state = claimed(&world);
        let sleepers = [(); 2].map(|()| process(&world, World::await_end));
        world.end(state, DONE);
        assert_eq!(sleepers.map(|sleeper| sleeper.join().unwrap()), [(), ()]);
        assert_eq!(load_state(world.cell(0)), State { tag: DONE, ..state });
    });
}

#[test]
fn the_result_is_seen_with_the_end() {
    explore(None, |world| {
        let state = claimed(&world);
        // Any word written before the end: the entry of a ring that is unused here.
        let result = |world: &World| world.entries[1][0].load(Ordering::Relaxed);
        let reader = process(&world, move |world| {
            world.await_end();
            result(world)
        });
        world.entries[1][0].store(42, Ordering::Relaxed);
        world.end(state, LOST);
        assert_eq!(reader.join().unwrap(), 42);
    });
}

#[test]
fn a_new_attempt_keeps_the_sleeper() {
    explore(Some(3), |world| {
        claimed(&world);
        let sleeper = process(&world, World::await_end);
        let supervisor = process(&world, |world| world.push(RETRY, 0));
        if let Some((cell, state)) = world.claim(2) {
            assert_eq!((cell, state.ring, state.owner_id), (0, RETRY, 2));
            world.end(state, DONE);
            assert!(supervisor.join().unwrap());
        } else {
            assert!(supervisor.join().unwrap());
            let (_, state) = world.claim(2).expect("entered by now");
            world.end(state, DONE);
        }
        sleeper.join().unwrap();
    });
}

#[test]
fn the_waiter_bit_survives_every_hand() {
    explore(None, |world| {
        claimed(&world);
        let parent = process(&world, |world| announce_waiter(world.cell(0)).is_some());
        let supervisor = process(&world, |world| world.push(RETRY, 0));
        let claimed = world.claim(2);
        assert!(parent.join().unwrap());
        assert!(supervisor.join().unwrap());
        let (_, state) = claimed.or_else(|| world.claim(2)).expect("entered by now");
        assert!(finish(world.cell(0), state, DONE), "somebody may sleep");
    });
}

#[test]
fn a_fresh_task_shows_its_arguments_with_the_claim() {
    explore(None, |world| {
        let worker = process(&world, |world| {
            world.claim(1).map(|_| world.entries[1][0].load(Ordering::Relaxed))
        });
        world.entries[1][0].store(42, Ordering::Relaxed);
        let sleeper = process(&world, |world| announce_waiter(world.cell(0)));
        world.push(MAIN, 0);
        assert!(matches!(worker.join().unwrap(), None | Some(42)));
        sleeper.join().unwrap();
    });
}
