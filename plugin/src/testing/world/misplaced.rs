//! Servers that are no API server of a cluster with the operator, and what a server says of itself.

use http::Response;
use kube::client::Body;
use serde_json::json;

use super::server::respond;
use super::{State, World};

impl World {
    /// Lets a web server answer instead of an API server.
    pub(crate) fn answered_by_another(self) -> Self {
        self.0.lock().unwrap().another = true;
        self
    }

    /// Takes the definitions of the operator's kinds and of ours away.
    pub(crate) fn without_definitions(self) -> Self {
        self.0.lock().unwrap().bare = true;
        self
    }
}

impl State {
    /// Returns the answer of a server that is no API server, or of one without definitions. The
    /// answers about the server itself are here, too.
    pub(super) fn misplaced(&self, path: &str) -> Option<Response<Body>> {
        if self.another {
            return Some(page("<html><body>no such page</body></html>\n"));
        }
        let custom = ["/apis/acid.zalan.do/", "/apis/pgscale.dev/"];
        if self.bare && custom.iter().any(|group| path.starts_with(group)) {
            return Some(page("404 page not found\n"));
        }
        let known = ["/apis/pgscale.dev/v1alpha1", "/apis/acid.zalan.do/v1"];
        match path.strip_prefix("/version") {
            Some(_) => Some(respond(
                200,
                &json!({"major": "1", "minor": "36", "gitVersion": "v1.36.3", "gitCommit": "",
                    "gitTreeState": "clean", "buildDate": "", "goVersion": "", "compiler": "gc",
                    "platform": "linux/amd64"}),
            )),
            None if known.contains(&path) => Some(respond(
                200,
                &json!({"kind": "APIResourceList", "apiVersion": "v1",
                    "groupVersion": path.trim_start_matches("/apis/"), "resources": []}),
            )),
            None => None,
        }
    }
}

fn page(text: &str) -> Response<Body> {
    Response::builder().status(404).body(Body::from(text.as_bytes().to_vec())).unwrap()
}
