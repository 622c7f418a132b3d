use std::collections::BTreeSet;

use super::*;

const NOW: Duration = Duration::from_secs(10);

fn admitted(name: &str, leader: Option<&str>) -> Admitted {
    Admitted {
        object: ObjectReference::default(),
        namespace: "db".to_owned(),
        name: name.to_owned(),
        uid: "c1".to_owned(),
        user: "dba".to_owned(),
        removal: Removal { from: 5, to: 3, requested: 3, leader: leader.map(str::to_owned) },
    }
}

fn declares(instances: i64) -> Seen<Declared> {
    Seen::Known(Declared { uid: "c1".to_owned(), instances: Some(instances), terminating: false })
}

/// Returns a look at five pods.
fn seen(replicas: i64, leader: &str) -> CarriedOut {
    CarriedOut {
        replicas: Seen::Known(replicas),
        leader: Seen::Known(leader.to_owned()),
        pods: Seen::Known((0..5).collect()),
    }
}

/// Returns the dangers that a series of looks reports, and its end.
fn judged(leader: Option<&str>, looks: &[CarriedOut]) -> (Vec<(String, Danger)>, Option<End>) {
    let start = Instant::now();
    let mut watched = Watched::new(admitted("acid-a", leader), start);
    let mut found = Vec::new();
    for look in looks {
        let judged = watched.judge(&declares(3), look, start + NOW);
        found.extend(judged.found);
        if judged.end.is_some() {
            return (found, judged.end);
        }
    }
    (found, None)
}

#[test]
fn each_time_the_leader_lands_on_a_removed_member_is_found_once() {
    let leads = |member: &str, danger| (member.to_owned(), danger);
    let kept = || seen(5, "acid-a-0");
    let expired = || CarriedOut { leader: Seen::Absent, ..kept() };
    let hidden = || CarriedOut { leader: Seen::Unreadable("timed out".to_owned()), ..kept() };
    let unread =
        || CarriedOut { replicas: Seen::Unreadable("timed out".to_owned()), ..seen(5, "acid-a-4") };
    let four = || leads("acid-a-4", Danger::LeadsNow);
    for (name, at_admission, looks, want) in [
        ("the leader stays", None, vec![kept(), expired(), kept(), seen(3, "acid-a-2")], vec![]),
        ("it moves", None, vec![kept(), seen(5, "acid-a-4"), seen(5, "acid-a-4")], vec![four()]),
        (
            "a lock that expires is no other leader",
            None,
            vec![seen(5, "acid-a-4"), expired(), hidden(), seen(5, "acid-a-4")],
            vec![four()],
        ),
        (
            "it comes back",
            None,
            vec![seen(5, "acid-a-4"), kept(), seen(5, "acid-a-4")],
            vec![four(), four()],
        ),
        (
            "it moves among removed members",
            None,
            vec![seen(5, "acid-a-4"), seen(3, "acid-a-3")],
            vec![four(), leads("acid-a-3", Danger::NotHandedOver)],
        ),
        (
            "it was found before the operator acted",
            None,
            vec![seen(5, "acid-a-4"), seen(3, "acid-a-4")],
            vec![four()],
        ),
        ("the count is hidden", None, vec![unread()], vec![four()]),
        (
            "the answer said so, and the operator hands over",
            Some("acid-a-4"),
            vec![seen(5, "acid-a-4"), seen(5, "acid-a-0"), seen(3, "acid-a-0")],
            vec![],
        ),
        (
            "the answer said so, and the hand-over failed",
            Some("acid-a-4"),
            vec![seen(5, "acid-a-4"), seen(3, "acid-a-4"), seen(3, "acid-a-4")],
            vec![leads("acid-a-4", Danger::NotHandedOver)],
        ),
        (
            "the answer said so, and another removed member leads",
            Some("acid-a-4"),
            vec![seen(5, "acid-a-3")],
            vec![leads("acid-a-3", Danger::LeadsNow)],
        ),
        ("a stranger leads", None, vec![seen(5, "acid-b-4"), seen(5, "")], vec![]),
    ] {
        assert_eq!(judged(at_admission, &looks), (want, None), "{name}");
    }
}

#[test]
fn watch_ends_when_the_removed_members_are_gone() {
    let gone = |pods: Seen<BTreeSet<i64>>| CarriedOut { pods, ..seen(3, "acid-a-0") };
    for (name, look, want) in [
        ("no removed member has a pod", gone(Seen::Known((0..3).collect())), true),
        ("one terminates", gone(Seen::Known((0..4).collect())), false),
        ("pods are hidden", gone(Seen::Unreadable("forbidden".to_owned())), false),
        (
            "the operator has not acted, and they were never there",
            CarriedOut { replicas: Seen::Known(5), ..gone(Seen::Known((0..3).collect())) },
            false,
        ),
    ] {
        let (found, end) = judged(None, &[look]);
        assert_eq!((found, end), (vec![], want.then_some(End::CarriedOut)), "{name}");
    }
}

#[test]
fn watch_ends_when_the_cluster_wants_something_else_or_the_time_is_over() {
    let other = |uid: &str, terminating| {
        Seen::Known(Declared { uid: uid.to_owned(), instances: Some(3), terminating })
    };
    let hidden = || Seen::Unreadable("timed out".to_owned());
    let minute = Duration::from_mins(1);
    for (name, looks, want) in [
        ("another count", vec![(declares(3), NOW), (declares(5), NOW)], Some(End::Superseded)),
        ("not stored yet", vec![(declares(5), NOW)], None),
        ("never stored", vec![(declares(5), NOW), (declares(5), minute)], Some(End::NotStored)),
        ("deleted", vec![(Seen::Absent, NOW)], Some(End::Superseded)),
        ("created again", vec![(other("c2", false), NOW)], Some(End::Superseded)),
        ("being deleted", vec![(other("c1", true), NOW)], Some(End::Superseded)),
        ("hidden", vec![(hidden(), NOW)], None),
        ("hidden for ever", vec![(hidden(), WATCHED_FOR)], Some(End::TimeOver)),
        ("not acted", vec![(declares(3), WATCHED_FOR)], Some(End::TimeOver)),
    ] {
        let start = Instant::now();
        let mut watched = Watched::new(admitted("acid-a", None), start);
        let ends = looks.iter().map(|(declared, after)| {
            watched.judge(declared, &seen(5, "acid-a-0"), start + *after).end
        });
        assert_eq!(ends.last().unwrap(), want, "{name}");
    }
}

#[test]
fn operator_that_never_acts_is_reported_where_the_leader_was_left_to_it() {
    let start = Instant::now();
    let mut watched = Watched::new(admitted("acid-a", Some("acid-a-4")), start);
    let look = seen(5, "acid-a-4");
    assert_eq!(watched.judge(&declares(3), &look, start + NOW), Judged::default());
    let last = watched.judge(&declares(3), &look, start + WATCHED_FOR);
    let found = Some(("acid-a-4".to_owned(), Danger::NotActed));
    assert_eq!(last, Judged { found, end: Some(End::TimeOver) });
}

#[test]
fn event_names_the_member_and_commands_that_can_be_pasted() {
    let watched = Watched::new(admitted("acid-a", None), Instant::now());
    let note = |member, danger| watched.note(member, danger);
    insta::assert_snapshot!(note("acid-a-4", Danger::LeadsNow), @"acid-a-4 leads, and the change 5 -> 3 of dba removes it. The operator has not acted yet, and deletes the leader when it does. Move the leader: kubectl pgscale switchover acid-a --for 3 -n db; or keep it: kubectl pgscale set acid-a 5 -n db");
    insta::assert_snapshot!(note("acid-a-3", Danger::NotHandedOver), @"acid-a-3 leads, and the change 5 -> 3 of dba removes it. The StatefulSet has the new count, so Kubernetes deletes the leader's pod next. Move the leader: kubectl pgscale switchover acid-a --for 3 -n db; or keep it: kubectl pgscale set acid-a 5 -n db");
    insta::assert_snapshot!(note("acid-a-6", Danger::NotActed), @"acid-a-6 leads, and the change 5 -> 3 of dba removes it. The operator has not acted in 10 minutes, and deletes the leader when it does. Move the leader: kubectl pgscale switchover acid-a --for 3 -n db; or keep it: kubectl pgscale set acid-a 7 -n db");
}

#[test]
fn number_of_watched_changes_is_bounded() {
    let metrics = Arc::new(Metrics::new());
    let watch = Watch::new(Arc::clone(&metrics));
    for number in 0..MOST + 10 {
        let namespace = format!("db-{}", number % 8);
        watch.add(Admitted { namespace, ..admitted(&format!("acid-{number}"), None) });
    }
    // A newer change of a cluster takes the place of its older one, also where there is no room.
    watch.add(Admitted { namespace: "db-0".to_owned(), ..admitted("acid-0", None) });
    let text = metrics.text();
    for line in [
        "pgscale_watched_changes 256\n",
        "pgscale_watched_changes_ended_total{result=\"too-many\"} 10\n",
        "pgscale_watched_changes_ended_total{result=\"superseded\"} 1\n",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}

#[test]
fn watched_changes_of_one_namespace_leave_room_for_others() {
    let metrics = Arc::new(Metrics::new());
    let watch = Watch::new(Arc::clone(&metrics));
    for number in 0..MOST {
        watch.add(admitted(&format!("acid-{number}"), None));
    }
    watch.add(Admitted { namespace: "other".to_owned(), ..admitted("acid-a", None) });
    let text = metrics.text();
    assert!(text.contains("pgscale_watched_changes 65\n"), "{text}");
}

#[test]
fn every_end_has_a_counter_before_the_first_review() {
    use crate::metrics::WATCH_ENDS;
    let all = [End::CarriedOut, End::Superseded, End::NotStored, End::TimeOver, End::TooMany];
    for end in all {
        assert!(WATCH_ENDS.contains(&end.as_str()), "{end:?}");
    }
    assert_eq!(WATCH_ENDS.len(), all.len());
}
