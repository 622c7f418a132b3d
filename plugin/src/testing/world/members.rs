//! The answers of members, over REST and to commands.

use http::Method;
use pgscale_guard::read::{RestRequest, RestResponse};
use serde_json::{Value, json};

use super::super::answer;
use super::super::growth::Stage;
use super::{Mishap, State, World, policy};
use crate::exec::ExecError;

impl World {
    /// Lets Patroni keep a logical slot.
    pub(crate) fn with_logical_slot(self, name: &'static str) -> Self {
        self.0.lock().unwrap().logical_slot = Some(name);
        self
    }
}

impl State {
    pub(super) fn say(&mut self, pod: &str, request: &RestRequest) -> Result<RestResponse, String> {
        let ordinal: i64 = pod.rsplit('-').next().unwrap().parse().unwrap();
        if request.method == Method::POST && request.path == "/switchover" {
            return self.switch_over(request.body.clone().unwrap());
        }
        if self.frozen == Some(ordinal) {
            return Err("timed out after 1s".to_owned());
        }
        if self.silent {
            return Err("neither pods/portforward nor pods/exec is permitted".to_owned());
        }
        let leads = ordinal == self.leader;
        let mut body = answer(leads, self.timeline);
        if let Some(stage) = self.stage(ordinal) {
            if !stage.runs() || matches!(stage, Stage::Started(_)) {
                return Err("connection refused".to_owned());
            }
            if let Some(state) = stage.says() {
                body["state"] = json!(state);
                body["role"] = json!("uninitialized");
            }
        }
        if leads && self.standby_cluster {
            body["role"] = json!("standby_leader");
            body["replication_state"] = json!("streaming");
            body["xlog"] = json!({"received_location": 1000, "replayed_location": 1000});
        }
        if self.replaying_slowly.contains(&ordinal) {
            body["xlog"] = json!({"received_location": 1000, "replayed_location": 400});
        }
        let stuck = self.followers_stuck && !leads;
        if self.stalled.contains(&ordinal) || stuck {
            body["xlog"] = json!({"received_location": 10, "replayed_location": 10});
        }
        Ok(RestResponse { status: 200, body: body.to_string() })
    }

    /// Runs a command inside a member: a checkpoint, a question about base backups, and a command
    /// that a test scripted.
    pub(super) fn run(&mut self, pod: &str, command: &[String]) -> Result<String, ExecError> {
        if self.hidden.contains(&"exec") {
            return Err(ExecError::Forbidden("pods/exec".to_owned()));
        }
        let words = command.join(" ");
        let here = |ordinal: i64| pod.ends_with(&format!("-{ordinal}"));
        let reported =
            self.printed.iter().position(|it| here(it.ordinal) && words.contains(it.part));
        if let Some(place) = reported {
            let output = self.printed[place].output.clone();
            if self.printed[place].once {
                self.printed.remove(place);
            }
            return output.map_err(ExecError::Failed);
        }
        if words.ends_with("CHECKPOINT") {
            if self.mishap == Some(Mishap::LeaderGoneAtCheckpoint) {
                self.leader = -1;
            }
            if self.mishap == Some(Mishap::FailoverAtCheckpoint) {
                self.leader = self.members - 2;
                self.timeline += 1;
            }
            return Ok(String::new());
        }
        if words.contains("FROM pg_replication_slots AS slot") {
            return Ok(String::new());
        }
        if let Some(growth) = &self.growth
            && words.contains("pg_stat_progress_basebackup")
        {
            return if growth.forbidden {
                Err(ExecError::Forbidden("pods/exec".to_owned()))
            } else {
                Ok(growth.backups())
            };
        }
        let program = command.first().map_or("nothing", String::as_str);
        Err(ExecError::Failed(format!("{program} is not installed")))
    }

    fn switch_over(&mut self, wish: Value) -> Result<RestResponse, String> {
        let candidate = wish["candidate"].as_str().unwrap().rsplit('-').next().unwrap().to_owned();
        self.switchovers.push(wish);
        if self.mishap == Some(Mishap::SwitchoverRefused) {
            let body = "candidate name does not match with sync_standby".to_owned();
            return Ok(RestResponse { status: 412, body });
        }
        if self.mishap == Some(Mishap::CandidateFrozen) {
            self.frozen = candidate.parse().ok();
            let body = "no good candidates have been found".to_owned();
            return Ok(RestResponse { status: 412, body });
        }
        if self.mishap == Some(Mishap::CandidateFreezes) {
            self.frozen = candidate.parse().ok();
            return Ok(RestResponse { status: 503, body: "Switchover failed".to_owned() });
        }
        if self.mishap == Some(Mishap::LeadReturns) && self.declared < self.replicas {
            // The operator deletes the leader while Patroni switches over.
            self.replicas = self.declared;
            self.members = self.declared;
            return Ok(RestResponse { status: 503, body: "Switchover failed".to_owned() });
        }
        self.leader = match self.mishap {
            Some(Mishap::AnotherTakesOver) => 1,
            _ => candidate.parse().unwrap(),
        };
        if self.mishap == Some(Mishap::NewLeaderFreezes) {
            self.frozen = Some(self.leader);
        }
        if self.mishap == Some(Mishap::LeadReturnsLate) && self.declared < self.replicas {
            self.replicas = self.declared;
            self.members = self.declared;
        }
        self.timeline += u64::from(!self.standby_cluster);
        if let Some(Mishap::CountedDuringSwitchover(count)) = self.mishap {
            self.declared = count;
            self.version += 1;
        }
        if matches!(self.mishap, Some(Mishap::FrozenDuringSwitchover | Mishap::LeadReturnsFrozen)) {
            self.policies.push(policy(
                "audit",
                &json!({"freeze": {"from": "2020-01-01T00:00:00Z", "until": "2099-01-01T00:00:00Z",
                    "reason": "audit"}}),
            ));
        }
        self.followers_stuck = self.mishap == Some(Mishap::NobodyFollows);
        if self.mishap == Some(Mishap::StallsAgain) {
            self.stalled.clear();
        }
        if self.mishap == Some(Mishap::SwitchoverAnswerLost) {
            return Err("timed out after 40s".to_owned());
        }
        Ok(RestResponse { status: 200, body: "Successfully switched over".to_owned() })
    }
}
