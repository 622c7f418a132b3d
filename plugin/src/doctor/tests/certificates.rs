//! Defects of the certificates, and of what the canary shows.

use k8s_openapi::ByteString;
use serde_json::json;

use super::healthy::{AUTHORITY, Life, NAME, authority, edit, healthy};
use super::{Case, case, followed};
use crate::doctor::canary::{Answer, Canary};
use crate::doctor::diagnose;
use crate::doctor::facts::Facts;

/// Lets every entry trust this PEM.
fn trust(facts: &mut Facts, pem: &str) {
    let bundle = serde_json::to_value(ByteString(pem.as_bytes().to_vec())).unwrap();
    edit(&mut facts.registration, |registration| {
        for entry in registration["webhooks"].as_array_mut().unwrap() {
            entry["clientConfig"]["caBundle"] = bundle.clone();
        }
    });
}

/// Lets one replica show this certificate.
fn show(facts: &mut Facts, der: Vec<u8>) {
    facts.served.insert("pgscale-webhook-1".to_owned(), Ok(vec![der]));
}

fn show_life(facts: &mut Facts, life: Life) {
    show(facts, AUTHORITY.sign(NAME, life));
}

/// Lets the API server trust an authority with this life, which signed for every replica.
fn live(facts: &mut Facts, life: Life) {
    let authority = authority(life);
    trust(facts, &authority.pem);
    let der = authority.sign(NAME, (-24, 60 * 24));
    for chain in facts.served.values_mut() {
        *chain = Ok(vec![der.clone()]);
    }
}

fn answered(facts: &mut Facts, answer: Answer) {
    facts.canary = Canary::Sent("db/acid-a".to_owned(), answer);
}

pub(super) const CASES: &[Case] = &[
    case("bundle-empty", "caBundle removed from every entry", |facts| {
        edit(&mut facts.registration, |registration| {
            for entry in registration["webhooks"].as_array_mut().unwrap() {
                entry["clientConfig"].as_object_mut().unwrap().remove("caBundle");
            }
        });
    }),
    case("bundle-empty", "caBundle empty, and cert-manager is to fill it in", |facts| {
        trust(facts, "");
        edit(&mut facts.registration, |registration| {
            registration["metadata"]["annotations"] =
                json!({"cert-manager.io/inject-ca-from": "pgscale-system/pgscale-webhook"});
        });
    }),
    case("bundle-unreadable", "caBundle is no PEM", |facts| trust(facts, "no certificate")),
    case("bundle-unreadable", "caBundle holds a damaged certificate", |facts| {
        trust(facts, "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n");
    }),
    case("authority-over", "the only authority ended a day ago", |facts| live(facts, (-480, -24))),
    case("authority-over", "the only authority begins tomorrow", |facts| live(facts, (24, 480))),
    case("authority-ends-soon", "the only authority ends in a week", |facts| {
        live(facts, (-24, 168));
    }),
    case("certificate-untrusted", "caBundle of another authority", |facts| {
        trust(facts, &authority((-24, 6000)).pem);
    }),
    case(
        "certificate-untrusted",
        "one entry of the registration trusts another authority",
        |facts| {
            let bundle = ByteString(authority((-24, 6000)).pem.into_bytes());
            let bundle = serde_json::to_value(bundle).unwrap();
            super::healthy::entry(facts, "grow.pgscale.dev", |entry| {
                entry["clientConfig"]["caBundle"] = bundle;
            });
        },
    ),
    case("certificate-name", "one replica serves a certificate for another Service", |facts| {
        show(facts, AUTHORITY.sign("other.pgscale-system.svc", (-24, 1440)));
    }),
    case("certificate-over", "the certificate of one replica ended an hour ago", |facts| {
        show_life(facts, (-480, -1));
    }),
    case("certificate-not-yet", "the certificate of one replica begins in an hour", |facts| {
        show_life(facts, (1, 480));
    }),
    case("certificate-ends-soon", "the certificate of one replica ends in a week", |facts| {
        show_life(facts, (-480, 168));
    }),
    case("certificate-unread", "one replica lets no port-forward in", |facts| {
        let why = Err("forbidden".to_owned());
        facts.served.insert("pgscale-webhook-1".to_owned(), why);
    }),
    case("canary-passed", "the dry run to 0 instances passes", |facts| {
        answered(facts, Answer::Admitted);
    }),
    case("canary-unjudged", "the webhook answers without a verdict", |facts| {
        answered(facts, Answer::Unjudged("the policies are unknown".to_owned()));
    }),
    case("canary-unanswered", "the API server fails to call the webhook", |facts| {
        answered(facts, Answer::NotAsked("failed calling webhook".to_owned()));
    }),
    case("canary-unclear", "the user may not write the cluster", |facts| {
        answered(facts, Answer::Unclear("postgresqls is forbidden".to_owned()));
    }),
    followed(
        case("deployment-missing", "the Deployment deleted, and nothing else", |facts| {
            super::healthy::remove(&mut facts.deployments, "pgscale-webhook");
        }),
        &[],
    ),
];

#[test]
fn bundle_that_rotates_holds_the_old_and_the_new_authority() {
    let mut facts = healthy();
    let old = authority((-6000, -24));
    trust(&mut facts, &format!("{}{}", old.pem, AUTHORITY.pem));
    assert_eq!(diagnose(&facts).unwrap(), diagnose(&healthy()).unwrap());
}

#[test]
fn answer_to_the_canary_is_read_from_codes_and_causes_alone() {
    let status = |code: u16, reasons: &[&str]| {
        let causes: Vec<_> = reasons.iter().map(|it| json!({"reason": it})).collect();
        serde_json::from_value(json!({"status": "Failure", "code": code, "message": "text",
            "reason": "x", "details": {"causes": causes}}))
        .unwrap()
    };
    let text = || "text".to_owned();
    for (code, reasons, want) in [
        (
            403,
            &["scale-to-zero", "below-min"][..],
            Answer::Refused(vec!["scale-to-zero".into(), "below-min".into()]),
        ),
        (403, &["cannot-be-judged"], Answer::Unjudged(text())),
        (500, &[], Answer::NotAsked(text())),
        (403, &[], Answer::Unclear(text())),
        (403, &["some-other-policy"], Answer::Unclear(text())),
        (422, &["FieldValueInvalid"], Answer::Unclear(text())),
    ] {
        assert_eq!(Answer::of(&status(code, reasons)), want, "{code} {reasons:?}");
    }
}
