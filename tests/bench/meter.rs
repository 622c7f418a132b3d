//! What a review costs: CPU and memory of processes from /proc, and requests from the API server's
//! own metrics.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use hyper::Method;

use crate::https::{Call, Https};

/// The kernel's unit of CPU time in /proc, which is the same on every machine that Rust's Linux
/// targets name (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);
/// The counter of the API server.
const COUNTER: &str = "apiserver_request_total{";

/// The memory of a process, in MiB.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// What it holds now (`VmRSS`).
    pub(crate) resident: f64,
    /// The most that it held since its start (`VmHWM`).
    pub(crate) peak: f64,
}

/// Returns the CPU time of a process since its start.
///
/// # Errors
/// Fails when it has ended.
pub(crate) fn cpu(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("failed to read {path}"))?;
    ticks(&stat).map(|ticks| TICK * ticks).with_context(|| format!("{path} is not understood"))
}

/// Returns the sum of fields 14 and 15 of /proc/PID/stat: user and system time. The second field is
/// the program's name in parentheses.
fn ticks(stat: &str) -> Option<u32> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// Returns the memory of a process.
///
/// # Errors
/// Fails when it has ended.
pub(crate) fn memory(pid: u32) -> Result<Memory> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("failed to read {path}"))?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
        let kib: Option<f64> = kib.and_then(|kib| kib.parse().ok());
        kib.map(|kib| kib / 1024.0).with_context(|| format!("{path} has no {name}"))
    };
    Ok(Memory { resident: field("VmRSS")?, peak: field("VmHWM")? })
}

/// The requests that the API server has answered, by verb and resource.
pub(crate) type Requests = BTreeMap<String, f64>;

/// Reads the number of requests so far, without those of the bench itself.
///
/// # Errors
/// Fails when the API server does not answer.
pub(crate) async fn requests(api: &Https) -> Result<Requests> {
    let reply = api.send(&Call::bare(Method::GET, "/metrics")).await?;
    let text = std::str::from_utf8(&reply.body).context("the metrics are no text")?;
    Ok(counted(text))
}

fn counted(text: &str) -> Requests {
    let mut requests = Requests::new();
    for line in text.lines() {
        let Some((labels, count)) =
            line.strip_prefix(COUNTER).and_then(|rest| rest.rsplit_once("} "))
        else {
            continue;
        };
        let label = |name: &str| {
            let (_, rest) = labels.split_once(&format!("{name}=\""))?;
            rest.split_once('"').map(|(value, _)| value)
        };
        let (Some(verb), Some(resource)) = (label("verb"), label("resource")) else { continue };
        // The load patches clusters, the bench renews leader locks, and metrics have no resource.
        // A watch is counted at its end.
        let own = matches!((verb, resource), ("PATCH", "postgresqls" | "endpoints") | ("WATCH", _));
        if let (false, false, Ok(count)) = (own, resource.is_empty(), count.trim().parse::<f64>()) {
            *requests.entry(format!("{verb} {resource}")).or_default() += count;
        }
    }
    requests
}

/// Returns the requests between two looks, per review.
pub(crate) fn per_review(before: &Requests, after: &Requests, reviews: f64) -> Requests {
    let since = |(key, count): (&String, &f64)| {
        let more = count - before.get(key).copied().unwrap_or_default();
        (more > 0.0).then(|| (key.clone(), more / reviews.max(1.0)))
    };
    after.iter().filter_map(since).collect()
}

/// Returns the sum of all requests.
pub(crate) fn total(requests: &Requests) -> f64 {
    requests.values().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_found_behind_an_odd_name() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 20 22 13 14 15";
        assert_eq!(ticks(stat), Some(42));
        assert_eq!(ticks("7 (a"), None);
    }

    #[test]
    fn this_process_has_time_and_memory() {
        cpu(std::process::id()).unwrap();
        let memory = memory(std::process::id()).unwrap();
        assert!(memory.resident > 0.0 && memory.peak >= memory.resident * 0.9, "{memory:?}");
    }

    #[test]
    fn requests_of_the_bench_are_left_out() {
        let line = |verb: &str, resource: &str, count: u32| {
            format!(
                "apiserver_request_total{{code=\"200\",component=\"apiserver\",resource=\
                 \"{resource}\",verb=\"{verb}\",version=\"v1\"}} {count}\n"
            )
        };
        let text = [
            "# HELP apiserver_request_total counter\n".to_owned(),
            line("PATCH", "postgresqls", 900),
            line("GET", "", 3),
            line("WATCH", "pods", 4),
            line("LIST", "pods", 10),
            line("LIST", "pods", 2),
        ];
        let before = counted(&text.concat());
        assert_eq!(before, Requests::from([("LIST pods".to_owned(), 12.0)]));
        let after = Requests::from([("LIST pods".to_owned(), 32.0), ("GET nodes".into(), 10.0)]);
        let each = per_review(&before, &after, 10.0);
        assert_eq!(each, Requests::from([("LIST pods".into(), 2.0), ("GET nodes".into(), 1.0)]));
        assert!((total(&each) - 3.0).abs() < 1e-9);
    }
}
