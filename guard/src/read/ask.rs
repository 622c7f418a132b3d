//! Requests to the members for their live state.
//!
//! A replica has caught up when, within a second, it has received the WAL that the leader had when
//! it was asked (see [`crate::facts::Health`]). So the leader's first answer is the mark. A replica
//! below the mark is asked again until it reaches the mark or the second is over. Its last answer
//! counts. A member that has not answered after half of its second is asked once more.
//!
//! Who may create pods in the namespace decides how many there are and where they seem to be. So
//! there is a most to ask, and addresses that no pod has are not asked.

use std::pin::pin;
use std::time::Duration;

use futures::future::{Either, join_all, select};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use crate::assessment::Assessment;
use crate::change::Direction;
use crate::duration::exact;
use crate::facts::{Facts, Health, Live, Member, Seen};
use crate::patroni::{Answer, State, bounded, given_by_another};
use crate::read::AskWhom;
use crate::read::address::no_address_of_a_pod;
use crate::read::rest::{Address, MemberClient, RestRequest, RestResponse};

/// The time that a replica has to reach the leader's position.
const CATCH_UP: Duration = Duration::from_secs(1);

/// The pause before a replica that is behind is asked again.
const PAUSE: Duration = Duration::from_millis(100);

/// The time after which a member that has not answered is asked once more, beside the first question.
///
/// A container whose share of the CPU is used up stands still for a part of a second. Half of the
/// second is left for the second answer.
const SECOND_TRY: Duration = Duration::from_millis(500);

/// The most members that are asked. The others count as not asked, and no kept member that was not
/// asked is healthy in a shrink.
const MOST: usize = 32;

/// Asks the members that `whom` names, and records their answers in `facts`.
pub(super) async fn ask(
    asker: &dyn MemberClient,
    facts: &mut Facts,
    whom: AskWhom,
    until: Instant,
) {
    let leader = facts.leader_name().map(str::to_owned);
    let mut names = choose(facts, whom, leader.as_deref());
    // The members are in the order of their ordinals, so the kept ones come first.
    let first = names.iter().position(|name| leader.as_ref() == Some(name));
    if let Some(leader) = first.map(|at| names.remove(at)) {
        names.insert(0, leader);
    }
    names.truncate(MOST);
    let cluster = &facts.change.new;
    let (namespace, cluster) = (cluster.namespace.clone(), cluster.name.clone());
    let Seen::Known(members) = &mut facts.members else { return };
    let chosen = members.iter_mut().filter(|member| names.contains(&member.name));
    let conversation = Conversation { asker, namespace: &namespace, cluster: &cluster, until };
    let leads = |member: &Member| leader.as_deref() == Some(member.name.as_str());
    let (announce, mark) = watch::channel(None);
    let (leading, following): (Vec<&mut Member>, Vec<&mut Member>) =
        chosen.partition(|member| leads(member));
    let leading = async {
        let mut position = None;
        for member in leading {
            member.live = conversation.first(member).await;
            if let Live::Answered(answer) = &member.live {
                position = answer.position();
            }
        }
        // There is no receiver when the leader is the only member.
        announce.send(Some(Mark { position, read: Instant::now() })).ok();
    };
    let following = following.into_iter().map(|member| {
        let mark = mark.clone();
        let conversation = &conversation;
        async move { member.live = conversation.follow(member, mark).await }
    });
    futures::join!(leading, join_all(following));
}

/// Returns the members to ask.
///
/// For a shrink all. For growth those that look unfinished, with the leader as their measure, and
/// for any change of the count the leader alone where the operator may upgrade it with the change.
/// Else none.
fn choose(facts: &Facts, whom: AskWhom, leader: Option<&str>) -> Vec<String> {
    let all = || facts.all_members().iter().map(|member| member.name.clone()).collect();
    if facts.deletes_leader() {
        return all();
    }
    match (whom, facts.direction()) {
        (AskWhom::All, _) | (AskWhom::AsNeeded, Direction::Down) => all(),
        (AskWhom::AsNeeded, Direction::Create) => Vec::new(),
        (AskWhom::AsNeeded, Direction::Same) => {
            let upgrade = facts.changes_count() && facts.upgrade_wanted().is_some();
            leader.filter(|_| upgrade).map(str::to_owned).into_iter().collect()
        }
        (AskWhom::AsNeeded, Direction::Up) => {
            let mut names: Vec<String> = facts
                .all_members()
                .iter()
                .filter(|member| unfinished(facts, member))
                .map(|member| member.name.clone())
                .collect();
            if let Some(leader) = leader
                && (!names.is_empty() || facts.upgrade_wanted().is_some())
                && !names.iter().any(|name| name == leader)
            {
                names.push(leader.to_owned());
            }
            names
        }
    }
}

/// Returns whether a member looks unfinished by its annotation, which may be ten seconds old and is
/// checked by asking.
fn unfinished(facts: &Facts, member: &Member) -> bool {
    Assessment::new(facts, None).health(member) != Health::Healthy
}

/// Returns whether asking again would bring nothing: the replica streams and has reached the
/// leader's position.
///
/// A replica whose receiver has just reconnected gets the same second as one that is behind.
fn caught_up(answer: &Answer, position: u64) -> bool {
    let still = answer.state != State::Running || answer.role.leads();
    still || (answer.streams() && answer.position().is_none_or(|own| own >= position))
}

/// The leader's position, and the time of its answer.
#[derive(Clone, Copy, Debug)]
struct Mark {
    position: Option<u64>,
    read: Instant,
}

struct Conversation<'a> {
    asker: &'a dyn MemberClient,
    namespace: &'a str,
    cluster: &'a str,
    until: Instant,
}

impl Conversation<'_> {
    /// Asks a member, if its pod can be reached at all.
    async fn first(&self, member: &Member) -> Live {
        let Some(ip) = &member.pod.ip else {
            return Live::Silent("has no address".to_owned());
        };
        if let Some(why) = no_address_of_a_pod(ip) {
            return Live::Silent(why);
        }
        if member.pod.phase == "Pending" {
            return Live::Silent("its pod is Pending".to_owned());
        }
        if let Err(why) = member.rest_port() {
            return Live::Silent(why);
        }
        self.twice(member).await
    }

    /// Asks a member, and once more where it is slow. The first answer counts.
    ///
    /// A refusal is an answer of its kind, and is not asked for twice.
    async fn twice(&self, member: &Member) -> Live {
        let until = self.until.min(Instant::now() + CATCH_UP);
        let mut first = pin!(self.once(member, until));
        if let Ok(live) = timeout(SECOND_TRY, first.as_mut()).await {
            return live;
        }
        let second = pin!(self.once(member, until));
        match select(first, second).await {
            Either::Left((silent @ Live::Silent(_), second)) => match second.await {
                answered @ Live::Answered(_) => answered,
                Live::NotAsked | Live::Silent(_) => silent,
            },
            Either::Right((Live::Silent(_), first)) => first.await,
            Either::Left((live, _)) | Either::Right((live, _)) => live,
        }
    }

    /// Asks a replica until it has the WAL that the leader had.
    async fn follow(&self, member: &Member, mut mark: watch::Receiver<Option<Mark>>) -> Live {
        let mut live = self.first(member).await;
        let mark = mark.wait_for(Option::is_some).await.map(|mark| *mark);
        let Ok(Some(Mark { position: Some(position), read })) = mark else { return live };
        let until = self.until.min(read + CATCH_UP);
        while let Live::Answered(answer) = &live
            && !caught_up(answer, position)
        {
            let next = Instant::now() + PAUSE;
            if next >= until {
                break;
            }
            sleep_until(next).await;
            // A member that falls silent meanwhile is judged by its last answer: behind.
            if let Live::Answered(answer) = self.once(member, until).await {
                live = Live::Answered(answer);
            }
        }
        live
    }

    async fn once(&self, member: &Member, until: Instant) -> Live {
        let address = Address::of(self.namespace, member);
        let mut request = RestRequest::get("/patroni");
        request.timeout = request.timeout.min(until.saturating_duration_since(Instant::now()));
        let patience = request.timeout;
        if patience.is_zero() {
            return Live::Silent("not asked: the time for the whole read was over".to_owned());
        }
        // An implementation of `MemberClient` may ignore the timeout, but the review must end.
        match timeout(patience, self.asker.exchange(&address, request)).await {
            Ok(Ok(response)) => understand(&response, self.cluster, &member.name),
            Ok(Err(why)) => Live::Silent(why),
            Err(_) => Live::Silent(format!("timed out after {}", exact(patience))),
        }
    }
}

/// Decodes the response of `member` of `cluster`. Patroni answers 503 in the same shape where
/// PostgreSQL does not run.
///
/// The answer of another member is not believed: addresses of pods that are gone are used again.
fn understand(response: &RestResponse, cluster: &str, member: &str) -> Live {
    let words = match response.status {
        401 => "asks for credentials (401)".to_owned(),
        403 => "refuses (403)".to_owned(),
        status => {
            let body: Option<Value> = bounded::decode(&response.body, bounded::VALUES).ok();
            match body.as_ref().and_then(|body| Some((body, Answer::of(body)?))) {
                Some((body, answer)) => match given_by_another(body, cluster, member) {
                    None => return Live::Answered(answer),
                    Some(another) => format!("{another} answers on its address"),
                },
                None => format!("answered {status} without saying its state"),
            }
        }
    };
    Live::Silent(words)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    use crate::facts::Health;
    use crate::read::testing::{Members, Reply, World, change, core, leader, standby, world};

    /// Shrinks three members to two, and returns the duration of the read.
    async fn shrink(world: &World, members: &Members) -> (Facts, Duration) {
        let start = Instant::now();
        let facts = world.reader(members).facts(change(3, 2), AskWhom::AsNeeded).await;
        (facts, start.elapsed())
    }

    fn answer<'a>(facts: &'a Facts, name: &str) -> &'a Answer {
        match &facts.member(name).unwrap().live {
            Live::Answered(answer) => answer,
            Live::NotAsked | Live::Silent(_) => panic!("{name} did not answer: {facts:?}"),
        }
    }

    fn silence<'a>(facts: &'a Facts, name: &str) -> &'a str {
        match &facts.member(name).unwrap().live {
            Live::Silent(why) => why,
            Live::NotAsked | Live::Answered(_) => panic!("{name} is not silent: {facts:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn member_that_has_all_wal_is_asked_once() {
        let members = Members::healthy();
        let (facts, took) = shrink(&world("endpoints"), &members).await;
        assert!(members.counts().values().all(|count| *count == 1), "{:?}", members.counts());
        assert_eq!(members.counts().len(), 3);
        assert_eq!(took, Duration::ZERO);
        assert_eq!(facts.leader_position(), Some(1000));
        assert!(
            facts
                .all_members()
                .iter()
                .all(|member| facts.assess().health(member) == Health::Healthy)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn laggard_may_catch_up_with_the_leaders_first_position() {
        let members = Members::of([
            vec![leader(1000), leader(5000)],
            vec![standby(900), standby(950), standby(1000)],
            vec![standby(4000)],
        ]);
        let (facts, took) = shrink(&world("endpoints"), &members).await;
        assert_eq!(facts.leader_position(), Some(1000), "the first answer is the mark");
        assert_eq!(answer(&facts, "acid-a-1").received, Some(1000));
        assert_eq!(members.counts()["acid-a-1"], 3);
        assert_eq!(members.counts()["acid-a-0"], 1);
        assert_eq!(took, 2 * PAUSE);
        assert_eq!(facts.assess().health(facts.member("acid-a-1").unwrap()), Health::Healthy);
    }

    #[tokio::test(start_paused = true)]
    async fn laggard_has_one_second_and_its_last_answer_counts() {
        let mut replies: Vec<Reply> = (0..5).map(|step| standby(900 + step)).collect();
        replies.push(standby(999));
        let members = Members::of([vec![leader(1000)], replies, vec![standby(1000)]]);
        let (facts, took) = shrink(&world("endpoints"), &members).await;
        assert!(took <= Duration::from_secs(1), "{took:?}");
        assert_eq!(answer(&facts, "acid-a-1").received, Some(999));
        assert!(members.counts()["acid-a-1"] >= 9, "{:?}", members.counts());
    }

    #[tokio::test(start_paused = true)]
    async fn silent_member_costs_a_second_and_silences_no_other() {
        let members =
            Members::of([vec![leader(1000)], vec![Reply::Hang], vec![standby(990), standby(1000)]]);
        let (facts, took) = shrink(&world("endpoints"), &members).await;
        assert_eq!(silence(&facts, "acid-a-1"), "timed out after 1s");
        assert_eq!(answer(&facts, "acid-a-2").received, Some(1000));
        assert!(took <= Duration::from_millis(1300), "{took:?}");
    }

    /// A leader whose CPU was throttled for a moment counted as silent.
    #[tokio::test(start_paused = true)]
    async fn member_that_answers_late_once_is_asked_again_within_the_second() {
        let late = |reply: Reply| vec![Reply::Hang, reply];
        let members = Members::of([late(leader(1000)), late(standby(1000)), vec![standby(1000)]]);
        let (facts, took) = shrink(&world("endpoints"), &members).await;
        assert_eq!((facts.leader_position(), took), (Some(1000), SECOND_TRY));
        assert_eq!(answer(&facts, "acid-a-1").received, Some(1000));
        assert_eq!(members.counts()["acid-a-0"], 2);
        assert_eq!(members.counts()["acid-a-2"], 1, "one that answers in time is asked once");

        let members =
            Members::of([vec![Reply::Hang], late(Reply::Error("reset")), vec![standby(1000)]]);
        let (facts, took) = shrink(&world("endpoints"), &members).await;
        assert_eq!(silence(&facts, "acid-a-0"), "timed out after 1s");
        assert_eq!(silence(&facts, "acid-a-1"), "timed out after 1s");
        assert_eq!((took, members.counts()["acid-a-0"]), (CATCH_UP, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn laggard_that_falls_silent_is_judged_by_its_last_answer() {
        let members =
            Members::of([vec![leader(1000)], vec![standby(990), Reply::Hang], vec![standby(1000)]]);
        let (facts, took) = shrink(&world("endpoints"), &members).await;
        assert_eq!(answer(&facts, "acid-a-1").received, Some(990));
        assert!(took <= Duration::from_millis(1300), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn every_silent_member_has_a_reason() {
        let refused = || vec![Reply::Error("connection refused")];
        let members = Members::of([
            refused(),
            vec![Reply::Body(401, json!({"state": "running"}))],
            vec![Reply::Body(502, json!({"error": "bad gateway"}))],
        ]);
        let (facts, took) = shrink(&world("endpoints"), &members).await;
        assert_eq!(silence(&facts, "acid-a-0"), "connection refused");
        assert_eq!(silence(&facts, "acid-a-1"), "asks for credentials (401)");
        assert_eq!(silence(&facts, "acid-a-2"), "answered 502 without saying its state");
        assert_eq!((took, facts.leader_position()), (Duration::ZERO, None));
    }

    #[tokio::test(start_paused = true)]
    async fn answer_of_another_member_is_not_believed() {
        let saying = |patroni: Value| {
            Reply::Body(
                200,
                json!({"state": "running", "role": "replica", "timeline": 1, "patroni": patroni,
                    "replication_state": "streaming",
                    "xlog": {"received_location": 1000, "replayed_location": 1000}}),
            )
        };
        for (patroni, why) in [
            (json!({"version": "4.1.4", "scope": "acid-a", "name": "acid-a-1"}), None),
            // Patroni before 3.2 does not say its name.
            (json!({"version": "3.1.0", "scope": "acid-a"}), None),
            (json!({"version": "2.1.7"}), None),
            (
                json!({"version": "4.1.4", "scope": "acid-a", "name": "acid-a-2"}),
                Some("acid-a-2 of acid-a answers on its address"),
            ),
            (
                json!({"version": "4.1.4", "scope": "acid-b", "name": "acid-a-1"}),
                Some("acid-a-1 of acid-b answers on its address"),
            ),
            (
                json!({"version": "3.1.0", "scope": "acid-b"}),
                Some("a member of acid-b answers on its address"),
            ),
        ] {
            let members = Members::of([
                vec![leader(1000)],
                vec![saying(patroni.clone())],
                vec![standby(1000)],
            ]);
            let (facts, _) = shrink(&world("endpoints"), &members).await;
            match why {
                None => assert_eq!(answer(&facts, "acid-a-1").received, Some(1000), "{patroni}"),
                Some(why) => assert_eq!(silence(&facts, "acid-a-1"), why, "{patroni}"),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn member_with_stopped_postgresql_still_answers() {
        let down = Reply::Body(503, json!({"state": "stopped", "role": "uninitialized"}));
        let members = Members::of([vec![leader(1000)], vec![down], vec![standby(1000)]]);
        let (facts, _) = shrink(&world("endpoints"), &members).await;
        assert_eq!(answer(&facts, "acid-a-1").state, State::Stopped);
    }

    #[tokio::test(start_paused = true)]
    async fn unreachable_member_is_not_asked() {
        let members = Members::healthy();
        let world = world("endpoints")
            .edit(&core("pods", "acid-a-1"), |pod| pod["status"]["podIP"] = json!(null))
            .edit(&core("pods", "acid-a-2"), |pod| pod["status"]["phase"] = json!("Pending"));
        let (facts, _) = shrink(&world, &members).await;
        assert_eq!(silence(&facts, "acid-a-1"), "has no address");
        assert_eq!(silence(&facts, "acid-a-2"), "its pod is Pending");
        assert_eq!(members.counts().into_keys().collect::<Vec<_>>(), ["acid-a-0"]);
    }

    #[tokio::test(start_paused = true)]
    async fn member_behind_tls_is_not_asked_and_says_so() {
        let members = Members::healthy();
        let url = |pod: &mut Value, url: &str| {
            let text = pod["metadata"]["annotations"]["status"].as_str().unwrap();
            let mut status: Value = serde_json::from_str(text).unwrap();
            status["api_url"] = json!(url);
            pod["metadata"]["annotations"]["status"] = json!(status.to_string());
        };
        let world = world("endpoints")
            .edit(&core("pods", "acid-a-1"), |pod| url(pod, "https://10.244.0.11:8008/patroni"))
            .edit(&core("pods", "acid-a-2"), |pod| url(pod, "http://10.244.0.12:8009/patroni"));
        let (facts, _) = shrink(&world, &members).await;
        assert!(silence(&facts, "acid-a-1").contains("TLS"), "{facts:?}");
        assert_eq!(members.counts().into_keys().collect::<Vec<_>>(), ["acid-a-0", "acid-a-2"]);
        let member = facts.member("acid-a-2").unwrap();
        assert_eq!(Address::of("db", member).port, Ok(8009));
        let source = facts.source_of(member).address;
        assert_eq!(source.as_deref(), Some("http://10.244.0.12:8009/patroni"));
    }

    #[tokio::test(start_paused = true)]
    async fn growth_asks_only_unfinished_members_and_the_leader() {
        let members = Members::healthy();
        let healthy = world("endpoints");
        let reader = healthy.reader(&members);
        reader.facts(change(3, 5), AskWhom::AsNeeded).await;
        reader.facts(change(3, 3), AskWhom::AsNeeded).await;
        assert_eq!(members.counts().len(), 0, "no member looks unfinished");

        // The operator may start a pending upgrade with any update: the leader's version decides.
        let asking = |from, to| {
            let mut change = change(from, to);
            for cluster in change.old.iter_mut().chain([&mut change.new]) {
                cluster.spec["postgresql"] = json!({"version": "16"});
            }
            change
        };
        let upgrading = Members::healthy();
        let reader = healthy.reader(&upgrading);
        reader.facts(asking(3, 3), AskWhom::AsNeeded).await;
        assert_eq!(upgrading.counts().len(), 0, "the count stays");
        reader.facts(asking(3, 5), AskWhom::AsNeeded).await;
        assert_eq!(upgrading.counts().into_keys().collect::<Vec<_>>(), ["acid-a-0"]);

        let cloning = json!({"state": "creating replica", "role": "replica", "version": "4.1.4"});
        let world = healthy.edit(&core("pods", "acid-a-2"), |pod| {
            pod["metadata"]["annotations"]["status"] = json!(cloning.to_string());
        });
        let facts = world.reader(&members).facts(change(3, 5), AskWhom::AsNeeded).await;
        assert_eq!(members.counts().into_keys().collect::<Vec<_>>(), ["acid-a-0", "acid-a-2"]);
        assert_eq!(facts.member("acid-a-1").unwrap().live, Live::NotAsked);

        let members = Members::healthy();
        world.reader(&members).facts(change(3, 3), AskWhom::All).await;
        assert_eq!(members.counts().len(), 3);
    }
}
