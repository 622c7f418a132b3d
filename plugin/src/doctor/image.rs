//! The image that a Deployment runs.

use k8s_openapi::api::apps::v1::Deployment;
use semver::Version;

/// Returns the image of the first container.
pub(super) fn image(deployment: &Deployment) -> Option<&str> {
    let pod = deployment.spec.as_ref()?.template.spec.as_ref()?;
    pod.containers.first()?.image.as_deref()
}

/// Returns the tag of the image of a Deployment's first container.
pub(crate) fn tag(deployment: &Deployment) -> Option<&str> {
    let image = image(deployment)?.split('@').next()?;
    let (_, tag) = image.rsplit_once(':').filter(|(_, tag)| !tag.contains('/'))?;
    Some(tag)
}

/// Returns the version that the image is of, where its tag is one. A digest or a tag of another kind
/// says nothing.
pub(crate) fn version(deployment: &Deployment) -> Option<&str> {
    let tag = tag(deployment)?.trim_start_matches('v');
    Version::parse(tag).is_ok().then_some(tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tag_is_the_version_of_an_image() {
        for (image, want) in [
            ("ghcr.io/zalando/postgres-operator:v1.15.1", Some("v1.15.1")),
            ("registry:5000/operator", None),
            ("registry:5000/operator:v2@sha256:00", Some("v2")),
        ] {
            let deployment = serde_json::json!({"spec": {"selector": {}, "template": {"spec":
                {"containers": [{"name": "c", "image": image}]}}}});
            let deployment: Deployment = serde_json::from_value(deployment).unwrap();
            assert_eq!(tag(&deployment), want, "{image}");
        }
    }
}
