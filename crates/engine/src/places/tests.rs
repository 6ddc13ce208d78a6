use super::*;
use crate::config::Speculation;
use crate::layout::KvGroups;

fn places(scheduling_policy: SchedulingPolicy, capacity: u32) -> Places {
    Places::new(&EngineConfig {
        block_size: 1,
        block_count: 1,
        kv_groups: KvGroups::ONE,
        max_model_len: 1,
        max_num_seqs: 1,
        max_num_batched_tokens: 1,
        max_num_queued_reqs: capacity - 1,
        prefix_cache: false,
        scheduling_policy,
        speculation: Speculation::OFF,
    })
}

fn tenant(id: u64) -> Tenant {
    Tenant { id, ..Tenant::default() }
}

/// Takes all that the tenant gets; how many.
fn fill(places: &mut Places, tenant: Tenant) -> usize {
    (0..).take_while(|_| places.reserve(tenant).is_ok()).count()
}

#[test]
fn first_come_first_served_one_tenant_may_take_all() {
    let mut places = places(SchedulingPolicy::Fcfs, 12);
    assert_eq!(fill(&mut places, tenant(1)), 12);
    let refusal = SubmitError::QueueFull { in_flight: 12, limit: 12 };
    assert_eq!(places.reserve(tenant(2)), Err(refusal));
}

#[test]
fn fairly_each_tenant_leaves_the_share_of_one_more() {
    let mut places = places(SchedulingPolicy::Fair, 12);
    assert_eq!(fill(&mut places, tenant(1)), 6);
    let refusal = SubmitError::ShareFull { in_flight: 6, limit: 6 };
    assert_eq!(places.reserve(tenant(1)), Err(refusal));
    assert_eq!(fill(&mut places, tenant(2)), 4);
    assert_eq!(fill(&mut places, tenant(3)), 2, "the rest, less than its share of 3");
    assert_eq!(places.taken(), 12);
}

#[test]
fn a_single_place_is_for_anybody() {
    let mut places = places(SchedulingPolicy::Fair, 1);
    assert_eq!(fill(&mut places, tenant(1)), 1);
    assert!(places.release(1));
    assert_eq!(fill(&mut places, tenant(2)), 1);
}

#[test]
fn shares_go_by_weight_and_the_last_weight_counts() {
    let mut places = places(SchedulingPolicy::Fair, 100);
    places.reserve(tenant(1)).unwrap();
    places.reserve(tenant(2)).unwrap();
    assert_eq!(places.share(1, 9), 4);
    places.reserve(Tenant { id: 2, weight: 3 }).unwrap();
    assert_eq!((places.share(1, 9), places.share(2, 9)), (2, 6));
    assert!(!places.release(2));
    assert!(places.release(2));
    assert_eq!(places.share(1, 9), 9, "who holds nothing is forgotten");
    assert_eq!(places.tenant_ids().collect::<Vec<_>>(), [1]);
}

#[test]
fn fewer_places_taken_never_refuse_more() {
    let mut full = places(SchedulingPolicy::Fair, 9);
    let mut empty = places(SchedulingPolicy::Fair, 9);
    // The order and the ids are any; the second has only every other place of the first.
    for (index, id) in [1, 1, 2, 3, 1, 2, 4, 3, 1, 1, 5, 2].into_iter().enumerate() {
        let taken = full.reserve(tenant(id)).is_ok();
        if taken && index % 2 == 0 {
            assert_eq!(empty.reserve(tenant(id)), Ok(()));
        }
    }
}
