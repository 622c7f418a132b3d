//! The place where a member's Patroni is asked.

use crate::facts::{Live, Member};
use crate::patroni::PATRONI_PORT;

impl Member {
    /// Returns the port of its REST interface, at the address of its pod.
    ///
    /// The member reports the port in an annotation, which others can edit. So the report chooses a
    /// port and never an address, and a report about another address is not believed.
    ///
    /// # Errors
    /// The reason for not asking it: it is served over TLS, and nothing here can verify it.
    pub fn rest_port(&self) -> Result<u16, String> {
        let Some(url) = self.report.known().and_then(|report| report.api_url.as_ref()) else {
            return Ok(PATRONI_PORT);
        };
        // A name is not looked up: the address of the pod is known.
        let digits = |letter: char| letter.is_ascii_digit() || letter == '.';
        let is_address = url.host.contains(':') || url.host.chars().all(digits);
        if is_address && self.pod.ip.as_ref() != Some(&url.host) {
            return Ok(PATRONI_PORT);
        }
        if url.tls {
            return Err(
                "it answers over TLS only (https in its api_url), which cannot be verified".into(),
            );
        }
        Ok(url.port)
    }

    /// Returns the URL at which it is asked. `None` where it is not, or has no address.
    pub(crate) fn rest_url(&self) -> Option<String> {
        let asked = matches!(self.live, Live::Answered(_) | Live::Silent(_));
        let ip = self.pod.ip.as_ref().filter(|_| asked)?;
        let port = self.rest_port().ok()?;
        let host = if ip.contains(':') { format!("[{ip}]") } else { ip.clone() };
        Some(format!("http://{host}:{port}/patroni"))
    }
}

#[cfg(test)]
mod tests {
    use crate::facts::{Live, Seen};
    use crate::patroni::{ApiUrl, Report};
    use crate::policy::Policies;
    use crate::rules::evaluate;
    use crate::rules::testing::healthy;

    #[test]
    fn report_chooses_the_port_and_never_the_address() {
        let own = healthy(3, 3).member("acid-a-1").unwrap().pod.ip.clone().unwrap();
        for (url, want) in [
            (None, Some(8008)),
            (Some(format!("http://{own}:8008/patroni")), Some(8008)),
            (Some(format!("http://{own}:8009/patroni")), Some(8009)),
            (Some("http://acid-a-1.acid-a:8009/patroni".to_owned()), Some(8009)),
            // Another member, or a host outside of the cluster.
            (Some("http://10.244.0.10:8009/patroni".to_owned()), Some(8008)),
            (Some("https://192.0.2.7:443/patroni".to_owned()), Some(8008)),
            (Some(format!("https://{own}:8008/patroni")), None),
            (Some("https://acid-a-1.acid-a:8008/patroni".to_owned()), None),
        ] {
            let facts = healthy(3, 3).with_member(1, |member| {
                let report = member.report.known().unwrap().clone();
                let api_url = url.as_deref().and_then(ApiUrl::of);
                member.report = Seen::Known(Report { api_url, ..report });
            });
            let member = facts.member("acid-a-1").unwrap();
            assert_eq!(member.rest_port().ok(), want, "{url:?}");
        }
    }

    #[test]
    fn refusal_for_want_of_tls_prints_a_way_out() {
        let mut facts = healthy(3, 2);
        for ordinal in 0..3 {
            facts = facts.with_member(ordinal, |member| {
                let report = member.report.known().unwrap().clone();
                let api_url = ApiUrl::of("https://acid-a:8008/patroni");
                member.report = Seen::Known(Report { api_url, ..report });
                member.live = Live::Silent(member.rest_port().unwrap_err());
            });
        }
        let verdict = evaluate(&facts, &Policies::default());
        assert!(!verdict.allows());
        for finding in verdict.denials() {
            let text = finding.to_string();
            assert!(text.contains("TLS") && text.contains("kubectl pgscale override"), "{text}");
        }
    }

    #[test]
    fn url_of_a_member_is_read_in_every_spelling() {
        let url = |tls, host: &str, port| Some(ApiUrl { tls, host: host.to_owned(), port });
        for (text, want) in [
            ("http://10.0.0.1:8008/patroni", url(false, "10.0.0.1", 8008)),
            ("https://10.0.0.1:8009/patroni", url(true, "10.0.0.1", 8009)),
            ("http://[fd00::1]:8009/patroni", url(false, "fd00::1", 8009)),
            ("http://[fd00::1]/patroni", url(false, "fd00::1", 8008)),
            ("http://acid-a-0", url(false, "acid-a-0", 8008)),
            ("http://10.0.0.1:80800/patroni", None),
            ("http://10.0.0.1:0/patroni", None),
            ("http:///patroni", None),
            ("ftp://10.0.0.1/patroni", None),
            ("10.0.0.1:8008", None),
        ] {
            assert_eq!(ApiUrl::of(text), want, "{text}");
        }
    }
}
