//! Each ready cell is claimed exactly once, whichever process dies or takes back what.

use super::*;

/// Claim as much as there is.
fn claim_all(world: &World, owner_id: u32) -> Vec<u32> {
    std::iter::from_fn(|| world.claim(owner_id)).map(|(cell, _)| cell).collect()
}

/// What the claimants have got, and what they have left, is every cell once.
fn assert_each_once(world: &World, claimed: Vec<Vec<u32>>, expected: &[u32]) {
    let left = claim_all(world, 99);
    assert!(!world.has_work());
    let mut all: Vec<u32> = claimed.into_iter().chain([left]).flatten().collect();
    all.sort_unstable();
    assert_eq!(all, expected);
}

#[test]
fn a_signature_is_the_claimants() {
    explore(None, |world| {
        world.push(MAIN, 0);
        let other = process(&world, |world| world.claim(2));
        let mine = world.claim(1);
        let theirs = other.join().unwrap();
        let owner_id = if mine.is_some() { 1 } else { 2 };
        assert!(mine.is_some() != theirs.is_some());
        let signed = State::new(CLAIMED, MAIN, owner_id, 0);
        assert_eq!(mine.or(theirs), Some((0, signed)));
        assert_eq!(load_state(world.cell(0)), signed);
    });
}

#[test]
fn two_claimants_and_a_producer() {
    explore(Some(3), |world| {
        let claimants =
            [1, 2].map(|owner_id| process(&world, move |world| claim_all(world, owner_id)));
        world.push(MAIN, 0);
        world.push(MAIN, 1);
        let claimed = claimants.map(|claimant| claimant.join().unwrap());
        assert_each_once(&world, claimed.into(), &[0, 1]);
    });
}

#[test]
fn three_claimants() {
    explore(Some(2), |world| {
        assert!((0..3).all(|cell| world.push(MAIN, cell)));
        let claimants =
            [1, 2, 3].map(|owner_id| process(&world, move |world| claim_all(world, owner_id)));
        let claimed = claimants.map(|claimant| claimant.join().unwrap());
        assert_each_once(&world, claimed.into(), &[0, 1, 2]);
    });
}

#[test]
fn two_claimants_and_a_producer_for_each_ring() {
    explore(Some(3), |world| {
        let claimants =
            [1, 2].map(|owner_id| process(&world, move |world| claim_all(world, owner_id)));
        let supervisor = process(&world, |world| {
            world.cell(1).store(State::new(CLAIMED, MAIN, 9, 7).pack(), Ordering::Relaxed);
            world.push(RETRY, 1)
        });
        world.push(MAIN, 0);
        assert!(supervisor.join().unwrap());
        let claimed = claimants.map(|claimant| claimant.join().unwrap());
        assert_each_once(&world, claimed.into(), &[0, 1]);
    });
}

/// The claimant stops after the exchange, before it moves `head`.
#[test]
fn who_dies_with_a_claim_blocks_nobody() {
    explore(None, |world| {
        world.push(MAIN, 0);
        let victim = process(&world, |world| claim_cell(world.cell(0), MAIN, 0, 1).is_some());
        let claimant = process(&world, |world| claim_all(world, 2));
        world.push(MAIN, 1);
        let mut claimed = vec![claimant.join().unwrap()];
        if victim.join().unwrap() {
            assert_eq!(load_state(world.cell(0)).owner_id, 1, "the signature tells the owner");
            claimed.push(vec![0]);
        }
        assert_each_once(&world, claimed, &[0, 1]);
    });
}

/// Two laps around a ring of two entries, over the end of the tickets: a claimant that is late for
/// a place may find another cell in its entry.
#[test]
fn entries_and_tickets_are_used_again() {
    fn small(world: &World) -> TaskRing<'_> {
        TaskRing { entries: &world.entries[0][..2], ..world.ring(MAIN) }
    }
    fn claim(world: &World) -> Vec<u32> {
        let claims = std::iter::from_fn(|| {
            small(world).claim(1, |cell| Some(world.cell(cell))).expect("sound")
        });
        claims.map(|(cell, _)| cell).collect()
    }
    explore(Some(3), |world| {
        world.rings[0].head.store(u64::from(u32::MAX), Ordering::Relaxed);
        world.rings[0].tail.store(u64::from(u32::MAX), Ordering::Relaxed);
        let claimants = [(); 2].map(|()| process(&world, claim));
        let mut expected = vec![];
        for cell in 0..3 {
            if small(&world).has_room(|cell| Some(world.cell(cell))).expect("sound") {
                small(&world).push(cell, world.cell(cell));
                expected.push(cell);
            }
        }
        let claimed = claimants.map(|claimant| claimant.join().unwrap());
        let mut all = [claimed.concat(), claim(&world)].concat();
        all.sort_unstable();
        assert_eq!(all, expected);
    });
}

/// A task is either taken back or claimed; the cell's next task is claimed as itself.
#[test]
fn taking_back_and_claiming() {
    explore(Some(3), |world| {
        world.push(MAIN, 0);
        let claimants = [1, 2].map(|owner_id| process(&world, move |world| world.claim(owner_id)));
        let again = withdraw(world.cell(0)) && world.push(MAIN, 0);
        let claimed: Vec<_> = claimants.into_iter().filter_map(|c| c.join().unwrap()).collect();
        let left = world.claim(99);
        let state = claimed.into_iter().chain(left).map(|(_, state)| state);
        let tickets: Vec<u32> = state.map(|state| state.ticket).collect();
        assert_eq!(tickets, [u32::from(again)]);
    });
}

/// A ring full of tasks that were taken back has room, and a ready one is never overwritten.
#[test]
fn room_is_made_beside_claimants() {
    explore(Some(3), |world| {
        let ring = world.ring(MAIN);
        for _ in 0..ENTRIES {
            world.push(MAIN, 0);
            withdraw(world.cell(0));
        }
        assert_eq!(ring.shared.len(), ENTRIES as u64, "full");
        let claimant = process(&world, |world| claim_all(world, 1));
        for cell in [0, 1] {
            assert!(world.ring(MAIN).has_room(|cell| Some(world.cell(cell))).expect("sound"));
            world.push(MAIN, cell);
        }
        assert_each_once(&world, vec![claimant.join().unwrap()], &[0, 1]);
    });
}

/// A supervisor's successor looks for what no ring holds, while a worker claims what one holds.
#[test]
fn what_a_ring_holds_is_not_forgotten() {
    explore(None, |world| {
        for cell in [0, 1] {
            world.cell(cell).store(State::new(CLAIMED, MAIN, 9, 7).pack(), Ordering::Relaxed);
            world.push(RETRY, cell);
        }
        let claimant = process(&world, |world| claim_all(world, 1));
        let forgotten = [0, 1].map(|cell| world.ring(RETRY).is_unlisted(cell, world.cell(cell)));
        assert_eq!(forgotten, [false, false]);
        assert_each_once(&world, vec![claimant.join().unwrap()], &[0, 1]);
    });
}

/// The supervisor has died after marking a cell READY; the parent takes the task back and puts
/// another one into the cell while the successor enters what was forgotten.
#[test]
fn taking_back_what_was_forgotten() {
    explore(None, |world| {
        world.cell(0).store(State::new(READY, RETRY, 0, 0).pack(), Ordering::Relaxed);
        let successor = process(&world, |world| {
            world.ring(RETRY).is_unlisted(0, world.cell(0)) && world.push(RETRY, 0)
        });
        let withdrawn = withdraw(world.cell(0));
        if withdrawn {
            let state = load_state(world.cell(0));
            assert_eq!(state.tag, FREE, "the cell is the parent's alone");
            assert!(world.push(MAIN, 0));
        }
        let entered = successor.join().unwrap();
        assert!(withdrawn || entered);
        let ring = if withdrawn { MAIN } else { RETRY };
        assert_eq!(world.claim(1).map(|(_, state)| state.ring), Some(ring));
        assert_eq!(world.claim(2), None);
    });
}
