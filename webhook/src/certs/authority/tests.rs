//! The life of authorities and certificates, by the calendar.

use super::*;

const DAY: SignedDuration = SignedDuration::from_hours(24);
const END: &str = "-----END CERTIFICATE-----\n";

fn names() -> Vec<String> {
    vec!["pgscale-webhook.pgscale-system.svc".to_owned()]
}

fn start() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn bundles(texts: &[&str]) -> Trusted {
    Trusted::of(&texts.iter().map(|text| text.as_bytes().to_vec()).collect::<Vec<_>>())
}

fn first() -> Held {
    next(&Held::default(), &bundles(&[""]), start()).unwrap()
}

fn sign(leaf: Option<&Leaf>, held: &Held, trusted: &Trusted, now: Timestamp) -> Option<Leaf> {
    renewed(leaf, held, trusted, &names(), now).unwrap()
}

/// Returns whether an API server that trusts `bundle` accepts the certificate of `leaf` at `now`.
fn serves(leaf: &Leaf, bundle: &str, now: Timestamp) -> bool {
    let (_, der) = (&leaf.key, CertificateDer::from_pem_slice(leaf.certificate.as_bytes()));
    let der = der.unwrap();
    let own = X509Certificate::from_der(&der).unwrap().1;
    let (begins, ends) = super::super::pair::validity(&der).unwrap();
    let signed = read(bundle).into_iter().any(|authority| {
        let issuer = X509Certificate::from_der(&authority.der).unwrap().1;
        let valid = authority.begins <= now && now < authority.ends;
        valid && own.verify_signature(Some(issuer.public_key())).is_ok()
    });
    signed && begins <= now && now < ends
}

#[test]
fn first_authority_and_certificate_are_kept() {
    let held = first();
    let leaf = sign(None, &held, &bundles(&[""]), start()).unwrap();
    let trusted = bundles(&[&held.certificates]);
    assert!(serves(&leaf, &held.certificates, start()));
    for now in [start(), start() + DAY, start() + DAY * 30] {
        assert!(next(&held, &trusted, now).unwrap() == held);
        assert!(sign(Some(&leaf), &held, &trusted, now).is_none());
    }
}

#[test]
fn serving_certificate_is_renewed_under_the_same_authority() {
    let held = first();
    let trusted = bundles(&[&held.certificates]);
    let leaf = sign(None, &held, &trusted, start()).unwrap();
    let later = start() + DAY * 61;
    let new = sign(Some(&leaf), &held, &trusted, later).unwrap();
    assert!(new.certificate != leaf.certificate && new.authority == leaf.authority);
    assert!(serves(&new, &held.certificates, later + DAY * 60));
}

#[test]
fn each_replica_has_a_key_of_its_own() {
    let held = first();
    let one = sign(None, &held, &bundles(&[""]), start()).unwrap();
    let other = sign(None, &held, &bundles(&[""]), start()).unwrap();
    assert!(one.key != other.key && one.authority == other.authority);
    assert!(!held.keys.contains(&one.key) && !held.certificates.contains(&one.certificate));
}

#[test]
fn new_authority_signs_nothing_before_it_is_trusted() {
    let held = first();
    let old = held.certificates.clone();
    let now = start() + DAY * 491;
    let leaf = sign(None, &held, &bundles(&[&old]), now).unwrap();
    let both = next(&held, &bundles(&[&old]), now).unwrap();
    assert!(both.certificates.ends_with(&old) && both.certificates.len() > old.len());
    assert_eq!(blocks(&both.keys, KEY).len(), 2, "the old one still signs");

    // A replica that starts now signs by the old one, too.
    let trusted = bundles(&[&old, &old]);
    assert!(serves(&sign(None, &both, &trusted, now).unwrap(), &old, now));
    let later = now + SEEN;
    let one_entry = bundles(&[&old, &both.certificates]);
    assert!(sign(Some(&leaf), &both, &one_entry, later).is_none(), "in one entry only");
    assert!(next(&both, &one_entry, later).unwrap() == both);
    let trusted = bundles(&[&both.certificates]);
    let soon = now + SignedDuration::from_mins(1);
    assert!(sign(Some(&leaf), &both, &trusted, soon).is_none(), "not seen yet");

    let moved = sign(Some(&leaf), &both, &trusted, later).unwrap();
    assert!(!serves(&moved, &old, later), "the new authority signed it");
    assert!(serves(&moved, &both.certificates, later));
    let left = next(&both, &trusted, later).unwrap();
    assert_eq!(blocks(&left.keys, KEY).len(), 1, "the old one signs no more");
    assert_eq!(left.certificates, both.certificates);
}

#[test]
fn api_servers_accept_every_replica_through_ten_years_of_rotations() {
    let mut held = first();
    let mut published = held.certificates.clone();
    let (mut old, mut new): (Option<Leaf>, Option<Leaf>) = (None, None);
    let (mut now, mut authorities) = (start(), 1);
    while now < start() + DAY * 3650 {
        now += DAY * 3;
        for pause in [SignedDuration::ZERO, SEEN] {
            now += pause;
            let seen = bundles(&[&published]);
            let next = next(&held, &seen, now).unwrap();
            if read(&next.certificates)[0].der != read(&held.certificates)[0].der {
                authorities += 1;
            }
            held = next;
            // The second replica looks less often. A third one has just started.
            new = sign(new.as_ref(), &held, &seen, now).or(new);
            if pause.is_zero() {
                old = sign(old.as_ref(), &held, &seen, now).or(old);
            }
            let started = sign(None, &held, &seen, now);
            for leaf in [&old, &new, &started].into_iter().flatten() {
                assert!(serves(leaf, &published, now), "{now}: a bundle that is still in use");
            }
            published = bundle(&held, &seen, new.as_ref(), now);
            assert!(held.certificates.matches(END).count() <= 2, "ended ones are removed");
            assert!(published.matches(END).count() <= 3, "{now}");
        }
    }
    assert!((7..=9).contains(&authorities), "{authorities}");
}

#[test]
fn damaged_authorities_are_replaced_at_once() {
    let (made, other) = (first(), first());
    for (what, damaged) in [
        ("nothing", Held::default()),
        ("no authority", Held { certificates: String::new(), ..made.clone() }),
        ("half an authority", Held { certificates: "half an a".into(), ..made.clone() }),
        ("no key", Held { keys: String::new(), ..made.clone() }),
        ("half a key", Held { keys: "half a k".into(), ..made.clone() }),
        ("another's key", Held { keys: other.keys.clone(), ..made.clone() }),
    ] {
        let trusted = bundles(&[&made.certificates]);
        let repaired = next(&damaged, &trusted, start()).unwrap();
        let leaf = sign(None, &repaired, &trusted, start()).unwrap();
        let bundle = bundle(&repaired, &trusted, Some(&leaf), start());
        assert!(serves(&leaf, &bundle, start()), "{what}");
        assert!(bundle.contains(&made.certificates), "{what}: it is published");
    }
    let ended = start() + DAY * 800;
    let trusted = bundles(&[&made.certificates]);
    let repaired = next(&made, &trusted, ended).unwrap();
    assert_eq!(repaired.certificates.matches(END).count(), 1);
    assert_eq!(bundle(&repaired, &trusted, None, ended), repaired.certificates, "it has ended");
}

#[test]
fn authority_and_certificate_of_a_wrong_clock_are_mended() {
    let ahead = start() + DAY * 61;
    let wrong = next(&Held::default(), &bundles(&[""]), ahead).unwrap();
    let trusted = bundles(&[&wrong.certificates]);
    let leaf = sign(None, &wrong, &trusted, ahead).unwrap();
    assert!(!serves(&leaf, &wrong.certificates, start()), "not valid yet");

    let mended = next(&wrong, &trusted, start()).unwrap();
    let right = sign(Some(&leaf), &mended, &trusted, start()).unwrap();
    let published = bundle(&mended, &trusted, Some(&right), start());
    assert!(serves(&right, &published, start()));
    // The other way round: one that has ended by the right clock.
    let later = start() + DAY * 200;
    let renewed = sign(Some(&right), &mended, &bundles(&[&published]), later).unwrap();
    assert!(serves(&renewed, &published, later));
}

#[test]
fn certificate_whose_authority_is_trusted_nowhere_is_replaced() {
    let (lost, held) = (first(), first());
    let leaf = sign(None, &lost, &bundles(&[&lost.certificates]), start()).unwrap();
    let only_new = bundles(&[&held.certificates]);
    let new = sign(Some(&leaf), &held, &only_new, start()).unwrap();
    assert!(serves(&new, &held.certificates, start()));
    let both = lost.certificates.clone() + &held.certificates;
    assert!(sign(Some(&leaf), &held, &bundles(&[&both]), start()).is_none(), "it is trusted");
    assert!(sign(Some(&leaf), &held, &bundles(&[&both]), start() + SEEN).is_some(), "seen by all");
}

#[test]
fn bundle_keeps_what_is_published_and_in_use_and_is_bounded() {
    let (held, in_use, published) = (first(), first(), first());
    let leaf = sign(None, &in_use, &bundles(&[""]), start()).unwrap();
    let trusted = bundles(&[&published.certificates, "no certificate"]);
    let text = bundle(&held, &trusted, Some(&leaf), start());
    for part in [&held, &in_use, &published] {
        assert!(text.contains(&part.certificates));
    }
    // Another replica, with another certificate in use, changes nothing.
    assert_eq!(bundle(&held, &bundles(&[&text, &text]), None, start()), text);
    let many: String = (0..20).map(|_| first().certificates).collect();
    let text = bundle(&held, &bundles(&[&many]), Some(&leaf), start());
    assert_eq!(text.matches(END).count(), MOST);
    assert!(text.contains(&held.certificates) && text.contains(&in_use.certificates));
}

#[test]
fn other_server_name_gets_a_new_certificate_under_the_same_authority() {
    let held = first();
    let trusted = bundles(&[&held.certificates]);
    let leaf = sign(None, &held, &trusted, start()).unwrap();
    let moved = vec!["pgscale-webhook.elsewhere.svc".to_owned()];
    let renamed = renewed(Some(&leaf), &held, &trusted, &moved, start()).unwrap().unwrap();
    assert!(renamed.authority == leaf.authority && renamed.certificate != leaf.certificate);
}

#[test]
fn text_around_certificates_is_left_out() {
    let held = first();
    let noise = format!("# mine\n{}\r\n# end", held.certificates.replace('\n', "\r\n"));
    let read: String = read(&noise).into_iter().map(|authority| authority.pem).collect();
    assert_eq!(read, held.certificates);
}
