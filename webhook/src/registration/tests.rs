use super::*;

fn registration() -> Registration {
    Registration {
        target: Target::url("https://10.0.0.1:9443/").unwrap(),
        authority: Some(b"PEM".to_vec()),
        token: None,
        operator_accounts: vec!["default/postgres-operator".parse().unwrap()],
        growth: FailurePolicy::default(),
    }
}

#[test]
fn every_entry_has_its_own_failure_policy() {
    let entries = configuration(&registration()).webhooks.unwrap();
    let shape: Vec<_> = entries
        .iter()
        .map(|entry| {
            let rule = &entry.rules.as_ref().unwrap()[0];
            let (operations, resources) = (rule.operations.clone(), rule.resources.clone());
            let policy = entry.failure_policy.as_deref().unwrap();
            (
                entry.name.as_str(),
                operations.unwrap().join("+"),
                resources.unwrap().join("+"),
                policy,
            )
        })
        .collect();
    assert_eq!(
        shape,
        [
            ("shrink.pgscale.dev", "UPDATE".into(), "postgresqls".into(), "Fail"),
            ("grow.pgscale.dev", "CREATE+UPDATE".into(), "postgresqls".into(), "Ignore"),
            ("scale.pgscale.dev", "UPDATE".into(), "postgresqls/scale".into(), "Fail"),
            (
                "direct-scale.pgscale.dev",
                "UPDATE".into(),
                "statefulsets+statefulsets/scale".into(),
                "Ignore"
            ),
        ]
    );
    for entry in &entries {
        assert_eq!(entry.side_effects, "NoneOnDryRun");
        assert_eq!(entry.match_policy.as_deref(), Some("Equivalent"));
        let seconds = if entry.name.starts_with("direct-scale") { 1 } else { 5 };
        assert_eq!(entry.timeout_seconds, Some(seconds));
        assert_eq!(entry.client_config.url.as_deref(), Some("https://10.0.0.1:9443/validate"));
        let conditions = entry.match_conditions.as_ref().unwrap();
        assert!(conditions[0].expression.contains("'pgscale:break-glass' in"));
    }
}

#[test]
fn path_of_a_service_is_the_secret_one_or_left_to_the_webhook() {
    let target = Target::service("ns/name").unwrap();
    for (token, path) in [(None, None), (Some("abc"), Some("/validate/abc"))] {
        let token = token.map(str::to_owned);
        let with = Registration { target: target.clone(), token, ..registration() };
        for entry in configuration(&with).webhooks.unwrap() {
            assert_eq!(entry.client_config.service.unwrap().path.as_deref(), path);
        }
    }
}

#[test]
fn growth_policy_changes_the_entry_for_growth_alone() {
    let strict = Registration { growth: FailurePolicy::Fail, ..registration() };
    let policies = |registration: &Registration| -> Vec<String> {
        let entries = configuration(registration).webhooks.unwrap();
        entries.into_iter().filter_map(|entry| entry.failure_policy).collect()
    };
    assert_eq!(policies(&strict), ["Fail", "Fail", "Fail", "Ignore"]);
    assert_eq!(policies(&registration()), ["Fail", "Ignore", "Fail", "Ignore"]);
}

#[test]
fn standby_declared_in_the_environment_is_sent_to_the_webhook() {
    let entries = configuration(&registration()).webhooks.unwrap();
    for entry in &entries[..2] {
        let condition = &entry.match_conditions.as_ref().unwrap()[1].expression;
        for name in STANDBY_VARIABLES {
            // Before the write and after it.
            let mentions = condition.matches(&format!("'{name}'")).count();
            assert_eq!(mentions, 2, "{}: {name}", entry.name);
        }
    }
}

/// A writer decides how many there are, and an expression that costs too much is no answer.
#[test]
fn collections_are_counted_before_a_condition_looks_through_them() {
    let relimited = relimited();
    let variables = ".?env.optMap(e, type(e) == list ? e : []).orValue([])";
    let collections = [
        "object.?metadata.?annotations.orValue({})".to_owned(),
        format!("{}{variables}", spec("object")),
        format!("{}{variables}", spec("oldObject")),
    ];
    // Each is an alternative of its own, and the first that holds ends the evaluation.
    let counted: Vec<_> = collections.iter().map(|it| format!("{it}.size() > {MANY}")).collect();
    let rest = relimited.strip_prefix(&(counted.join(" || ") + " || ")).unwrap();
    let mut walked = rest.to_owned();
    for collection in &collections {
        assert!(rest.contains(&format!("{collection}.exists(")), "{collection}");
        walked = walked.replace(&format!("{collection}.exists("), "");
    }
    // The stored annotations have 256 KiB at most.
    walked = walked.replace("oldObject.?metadata.?annotations.orValue({}).exists(", "");
    assert!(!walked.contains(".exists("), "{walked}");
    // A shrink looks at them last, and what is too many for that is not left to the other entry.
    let entries = configuration(&registration()).webhooks.unwrap();
    let condition =
        |at: usize| entries[at].match_conditions.as_ref().unwrap()[1].expression.clone();
    assert!(condition(0).ends_with(&format!("|| {relimited}")), "{}", condition(0));
    assert!(condition(1).ends_with(&format!("&& !({relimited}))")), "{}", condition(1));
}

#[test]
fn conditions_are_the_reviewed_expressions() {
    let entries = configuration(&registration()).webhooks.unwrap();
    let conditions: Vec<_> = entries
        .iter()
        .flat_map(|entry| entry.match_conditions.as_ref().unwrap().iter().skip(1))
        .map(|condition| condition.expression.as_str())
        .collect();
    insta::assert_snapshot!(conditions.join("\n\n"), @"
    object.?spec.optMap(s, type(s) == map ? s : {}).?numberOfInstances.optMap(n, type(n) == int ? n : type(n) == double && n < 1e10 && n > -1e10 ? int(n) : 0).orValue(0) < oldObject.?spec.optMap(s, type(s) == map ? s : {}).?numberOfInstances.optMap(n, type(n) == int ? n : type(n) == double && n < 1e10 && n > -1e10 ? int(n) : 0).orValue(0) || object.?metadata.?annotations.orValue({}).size() > 10000 || object.?spec.optMap(s, type(s) == map ? s : {}).?env.optMap(e, type(e) == list ? e : []).orValue([]).size() > 10000 || oldObject.?spec.optMap(s, type(s) == map ? s : {}).?env.optMap(e, type(e) == list ? e : []).orValue([]).size() > 10000 || object.?metadata.?annotations[?'acid.zalan.do/controller'].orValue('') != oldObject.?metadata.?annotations[?'acid.zalan.do/controller'].orValue('') || oldObject.?metadata.?annotations.orValue({}).exists(k, oldObject.?metadata.?annotations[?k].orValue('') == 'true' && object.?metadata.?annotations[?k].orValue('') != 'true') || object.?metadata.?annotations.orValue({}).exists(k, object.?metadata.?annotations[?k].orValue('') == 'true' && oldObject.?metadata.?annotations[?k].orValue('') != 'true') || (object.?spec.optMap(s, type(s) == map ? s : {}).?standby.hasValue() || object.?spec.optMap(s, type(s) == map ? s : {}).?env.optMap(e, type(e) == list ? e : []).orValue([]).exists(v, type(v) == map && v.?name.orValue('') in ['STANDBY_WALE_S3_PREFIX', 'STANDBY_WALE_GS_PREFIX', 'STANDBY_WALE_GSC_PREFIX', 'STANDBY_WALE_SWIFT_PREFIX'])) != (oldObject.?spec.optMap(s, type(s) == map ? s : {}).?standby.hasValue() || oldObject.?spec.optMap(s, type(s) == map ? s : {}).?env.optMap(e, type(e) == list ? e : []).orValue([]).exists(v, type(v) == map && v.?name.orValue('') in ['STANDBY_WALE_S3_PREFIX', 'STANDBY_WALE_GS_PREFIX', 'STANDBY_WALE_GSC_PREFIX', 'STANDBY_WALE_SWIFT_PREFIX']))

    request.operation == 'CREATE' || (object.?spec.optMap(s, type(s) == map ? s : {}).?numberOfInstances.optMap(n, type(n) == int ? n : type(n) == double && n < 1e10 && n > -1e10 ? int(n) : 0).orValue(0) > oldObject.?spec.optMap(s, type(s) == map ? s : {}).?numberOfInstances.optMap(n, type(n) == int ? n : type(n) == double && n < 1e10 && n > -1e10 ? int(n) : 0).orValue(0) && !(object.?metadata.?annotations.orValue({}).size() > 10000 || object.?spec.optMap(s, type(s) == map ? s : {}).?env.optMap(e, type(e) == list ? e : []).orValue([]).size() > 10000 || oldObject.?spec.optMap(s, type(s) == map ? s : {}).?env.optMap(e, type(e) == list ? e : []).orValue([]).size() > 10000 || object.?metadata.?annotations[?'acid.zalan.do/controller'].orValue('') != oldObject.?metadata.?annotations[?'acid.zalan.do/controller'].orValue('') || oldObject.?metadata.?annotations.orValue({}).exists(k, oldObject.?metadata.?annotations[?k].orValue('') == 'true' && object.?metadata.?annotations[?k].orValue('') != 'true') || object.?metadata.?annotations.orValue({}).exists(k, object.?metadata.?annotations[?k].orValue('') == 'true' && oldObject.?metadata.?annotations[?k].orValue('') != 'true') || (object.?spec.optMap(s, type(s) == map ? s : {}).?standby.hasValue() || object.?spec.optMap(s, type(s) == map ? s : {}).?env.optMap(e, type(e) == list ? e : []).orValue([]).exists(v, type(v) == map && v.?name.orValue('') in ['STANDBY_WALE_S3_PREFIX', 'STANDBY_WALE_GS_PREFIX', 'STANDBY_WALE_GSC_PREFIX', 'STANDBY_WALE_SWIFT_PREFIX'])) != (oldObject.?spec.optMap(s, type(s) == map ? s : {}).?standby.hasValue() || oldObject.?spec.optMap(s, type(s) == map ? s : {}).?env.optMap(e, type(e) == list ? e : []).orValue([]).exists(v, type(v) == map && v.?name.orValue('') in ['STANDBY_WALE_S3_PREFIX', 'STANDBY_WALE_GS_PREFIX', 'STANDBY_WALE_GSC_PREFIX', 'STANDBY_WALE_SWIFT_PREFIX']))))

    object.?spec.?replicas.orValue(0) != oldObject.?spec.?replicas.orValue(0)

    !(request.userInfo.?username.orValue('') in ['system:serviceaccount:default:postgres-operator'])

    request.?subResource.orValue('') == 'scale' ? 'application=spilo' in object.?status.?selector.orValue('').split(',') : object.?metadata.?labels[?'application'].orValue('') == 'spilo' || object.?metadata.?ownerReferences.orValue([]).exists(owner, owner.?kind.orValue('') == 'postgresql')

    object.?spec.?replicas.orValue(0) != oldObject.?spec.?replicas.orValue(0)
    ");
}

#[test]
fn target_is_a_service_with_or_without_a_port_or_an_https_url() {
    let service = |port| Target::Service { namespace: "ns".into(), name: "name".into(), port };
    assert_eq!(Target::service("ns/name"), Ok(service(None)));
    assert_eq!(Target::service("ns/name:8443"), Ok(service(Some(8443))));
    for wrong in ["name", "ns/", "/name", "ns/name:", "ns/name:x", "a/b/c"] {
        assert!(Target::service(wrong).is_err(), "{wrong}");
    }
    for wrong in ["http://h", "h:9443", "https://", "https://h/path", "https://u@h"] {
        assert!(Target::url(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn text_that_is_no_account_never_enters_an_expression() {
    for wrong in ["", "a'] || true", "a b", "a/b'] || true"] {
        assert!(wrong.parse::<Account>().is_err(), "{wrong}");
    }
}
