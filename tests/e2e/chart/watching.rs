//! The objects of the chart that watch the webhook, and those by which the API server serves it.

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use pgscale_tests::chart::Rendered;
use serde_json::{Value, json};

use super::{NAMESPACE, render};
use crate::sandbox::trial;

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial("chart::reads_of_reviews_have_a_priority_level_of_their_own", priority),
        trial("chart::prometheus_objects_are_there_where_they_are_wanted", wanted),
        trial("chart::the_service_monitor_selects_the_metrics_alone", monitor),
        trial("chart::alerts_are_those_of_the_tested_file", alerts),
        trial("chart::the_dashboard_is_found_by_its_labels", dashboard),
    ]
}

fn priority() -> Result<()> {
    const NAME: &str = "pgscale-webhook";
    let rendered = render(&json!({}))?;
    let level = &rendered.object("PriorityLevelConfiguration", NAME)?["spec"];
    ensure!(level["type"] == "Limited" && level["limited"]["limitResponse"]["type"] == "Queue");
    ensure!(level["limited"]["nominalConcurrencyShares"] == 20, "{level:#}");
    ensure!(level["limited"]["lendablePercent"] == 50, "{level:#}");
    let schema = &rendered.object("FlowSchema", NAME)?["spec"];
    ensure!(schema["priorityLevelConfiguration"]["name"] == NAME, "{schema:#}");
    ensure!(schema["matchingPrecedence"].as_u64().is_some_and(|it| it < 900), "{schema:#}");
    let rule = &schema["rules"][0];
    let account = json!([{
        "kind": "ServiceAccount",
        "serviceAccount": {"name": "pgscale-webhook", "namespace": NAMESPACE},
    }]);
    ensure!(rule["subjects"] == account, "{schema:#}");
    let pod = super::pod(&rendered)?;
    ensure!(pod["serviceAccountName"] == "pgscale-webhook", "another account");
    // Every read of a review: with and without a namespace.
    let all = json!(["*"]);
    let reads = &rule["resourceRules"][0];
    ensure!(reads["clusterScope"] == true && reads["namespaces"] == all, "{schema:#}");
    ensure!(reads["verbs"] == all && reads["resources"] == all, "{schema:#}");

    let chosen = render(&json!({"apiPriority": {
        "shares": 40, "lendablePercent": 0, "matchingPrecedence": 8000,
    }}))?;
    let level = &chosen.object("PriorityLevelConfiguration", NAME)?["spec"]["limited"];
    ensure!(level["nominalConcurrencyShares"] == 40 && level["lendablePercent"] == 0);
    ensure!(chosen.object("FlowSchema", NAME)?["spec"]["matchingPrecedence"] == 8000);
    let none = render(&json!({"apiPriority": {"enabled": false}}))?;
    ensure!(none.object("FlowSchema", NAME).is_err());
    ensure!(none.object("PriorityLevelConfiguration", NAME).is_err());
    Ok(())
}

/// Returns the chart with every object for Prometheus and Grafana, and `more` values below
/// `monitoring`.
fn monitored(more: &Value) -> Result<Rendered> {
    let mut monitoring = json!({});
    for part in ["serviceMonitor", "prometheusRule", "dashboard"] {
        let mut values = json!({"enabled": true});
        for (key, value) in more[part].as_object().into_iter().flatten() {
            values[key] = value.clone();
        }
        monitoring[part] = values;
    }
    render(&json!({"monitoring": monitoring}))
}

fn wanted() -> Result<()> {
    let objects = [
        ("serviceMonitor", "ServiceMonitor", "pgscale-webhook"),
        ("prometheusRule", "PrometheusRule", "pgscale-webhook"),
        ("dashboard", "ConfigMap", "pgscale-dashboard"),
    ];
    // Helm without a cluster knows no kind of the Prometheus operator.
    let rendered = render(&json!({}))?;
    for (value, kind, name) in objects {
        ensure!(rendered.object(kind, name).is_err(), "{kind} without its kind in the cluster");
        let alone = render(&json!({"monitoring": {value: {"enabled": true}}}))?;
        alone.object(kind, name)?;
        for (other, kind, name) in objects {
            ensure!(other == value || alone.object(kind, name).is_err(), "{value} brings {kind}");
        }
        render(&json!({"monitoring": {value: {"enabled": "true"}}}))?.object(kind, name)?;
        let none = render(&json!({"monitoring": {value: {"enabled": false}}}))?;
        ensure!(none.object(kind, name).is_err(), "{kind} that is switched off");
    }
    Ok(())
}

fn monitor() -> Result<()> {
    let relabel = json!([{"targetLabel": "cluster", "replacement": "a"}]);
    let rendered = monitored(&json!({"serviceMonitor": {
        "interval": "1m", "labels": {"release": "prometheus"}, "relabelings": relabel,
    }}))?;
    let monitor = rendered.object("ServiceMonitor", "pgscale-webhook")?;
    ensure!(monitor["metadata"]["labels"]["release"] == "prometheus", "{monitor:#}");
    let endpoint = &monitor["spec"]["endpoints"][0];
    ensure!(endpoint["port"] == "metrics" && endpoint["interval"] == "1m", "{monitor:#}");
    ensure!(endpoint["relabelings"] == relabel, "{monitor:#}");
    let selector = monitor["spec"]["selector"]["matchLabels"].as_object().context("no selector")?;
    let selected = |name: &str| -> Result<bool> {
        let labels = &rendered.object("Service", name)?["metadata"]["labels"];
        Ok(selector.iter().all(|(key, value)| labels[key] == *value))
    };
    ensure!(selected("pgscale-webhook-metrics")? && !selected("pgscale-webhook")?);
    let metrics = rendered.object("Service", "pgscale-webhook-metrics")?;
    ensure!(metrics["spec"]["ports"][0]["name"] == endpoint["port"], "{metrics:#}");
    Ok(())
}

fn alerts() -> Result<()> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/pgscale/files/alerts.yaml");
    let file: Value = serde_saphyr::from_str(&std::fs::read_to_string(path)?)?;
    let rule = |more: &Value| -> Result<Value> {
        let rendered = monitored(&json!({"prometheusRule": more}))?;
        Ok(rendered.object("PrometheusRule", "pgscale-webhook")?.clone())
    };
    ensure!(rule(&json!({}))?["spec"] == file, "not what promtool tests");
    let chosen = rule(&json!({
        "labels": {"release": "prometheus"}, "alertLabels": {"team": "databases"},
        "without": ["PgscaleBusy"],
    }))?;
    ensure!(chosen["metadata"]["labels"]["release"] == "prometheus", "{chosen:#}");
    let all = |rule: &Value| -> Vec<Value> {
        let groups = rule["groups"].as_array().into_iter().flatten();
        groups.flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default()).collect()
    };
    let (ours, chosen) = (all(&file), all(&chosen["spec"]));
    ensure!(chosen.len() + 1 == ours.len(), "{} of {}", chosen.len(), ours.len());
    for alert in &chosen {
        ensure!(alert["alert"] != "PgscaleBusy" && alert["labels"]["team"] == "databases");
        ensure!(alert["labels"]["severity"].is_string(), "{alert:#}");
    }
    Ok(())
}

fn dashboard() -> Result<()> {
    let rendered = monitored(&json!({"dashboard": {
        "namespace": "grafana", "labels": {"own": "yes"}, "annotations": {"folder": "pgscale"},
    }}))?;
    let map = rendered.object("ConfigMap", "pgscale-dashboard")?;
    let labels = &map["metadata"]["labels"];
    ensure!(labels["own"] == "yes" && labels["grafana_dashboard"] == "1", "{labels:#}");
    ensure!(map["metadata"]["namespace"] == "grafana", "{map:#}");
    ensure!(map["metadata"]["annotations"]["folder"] == "pgscale", "{map:#}");
    let text = map["data"]["pgscale.json"].as_str().context("no dashboard")?;
    let board: Value = serde_json::from_str(text).context("the dashboard is no JSON")?;
    ensure!(board["panels"].as_array().is_some_and(|panels| !panels.is_empty()), "{board:#}");
    Ok(())
}
