//! Addresses of pods, as far as a pod can have them.
//!
//! The kubelet reports the address of a pod, and another writer of its status can report any
//! other. The webhook must not be led to its own machine or to the services of its cloud.

use std::net::IpAddr;

use crate::read::member_address::of_a_member;

/// Returns the reason why no pod has this address: it leads to this process's own machine, or to
/// the services of its cloud.
///
/// A text that is no address is left to the client.
pub(super) fn no_address_of_a_pod(ip: &str) -> Option<String> {
    let address: IpAddr = ip.parse().ok()?;
    of_a_member(address).is_err().then(|| format!("its address is {ip}, which no pod has"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::facts::Live;
    use crate::read::AskWhom;
    use crate::read::testing::{Members, change, core, world};

    #[tokio::test(start_paused = true)]
    async fn address_that_no_pod_has_is_not_asked() {
        for (ip, asked) in [
            ("127.0.0.1", false),
            ("0.0.0.0", false),
            ("0.1.2.3", false),
            ("255.255.255.255", false),
            ("169.254.169.254", false),
            ("224.0.0.1", false),
            ("::", false),
            ("::1", false),
            ("::ffff:127.0.0.1", false),
            ("::ffff:169.254.169.254", false),
            ("fe80::1", false),
            ("ff02::1", false),
            ("fd00:ec2::254", false),
            ("64:ff9b::7f00:1", false),
            ("::127.0.0.1", false),
            ("10.244.0.14", true),
            ("192.168.3.4", true),
            ("100.64.0.9", true),
            ("fd12::1", true),
            ("2001:db8::7", true),
        ] {
            let there = world("endpoints")
                .edit(&core("pods", "acid-a-2"), |pod| pod["status"]["podIP"] = json!(ip));
            let members = Members::healthy();
            let facts = there.reader(&members).facts(change(3, 2), AskWhom::AsNeeded).await;
            assert_eq!(members.counts().contains_key("acid-a-2"), asked, "{ip}");
            let silent = match &facts.member("acid-a-2").unwrap().live {
                Live::Silent(why) => Some(why.as_str()),
                Live::Answered(_) | Live::NotAsked => None,
            };
            let why = format!("its address is {ip}, which no pod has");
            assert_eq!(silent, (!asked).then_some(why.as_str()));
        }
    }
}
