//! Which files count, which entries of them, and which server they lead to.

use crate::row::{Input, Stage, kubeconfig};
use crate::server::{Log, api_server};

/// Returns a kubeconfig without a context.
fn entries(clusters: &str, users: &str) -> String {
    format!("apiVersion: v1\nkind: Config\nclusters: [{clusters}]\nusers: [{users}]\n")
}

fn context(name: &str, words: &str) -> String {
    format!("contexts: [{{name: {name}, context: {{{words}, namespace: shop}}}}]\n")
}

/// Lists these files in `KUBECONFIG`.
fn listed(files: &[&str]) -> Input<'static> {
    let list = std::env::join_paths(files).unwrap().into_string().unwrap();
    Input { environment: vec![("KUBECONFIG", list)], ..Input::default() }
}

#[test]
fn kubeconfig_lists_are_merged_as_kubectl_merges_them() {
    let stage = Stage::new();
    let cluster = stage.cluster("127.0.0.1");
    let one = stage.file("one", &kubeconfig(&cluster, "token: first"));
    let other = stage.file("other", &kubeconfig(&cluster, "token: second"));
    let gone = stage.path("gone").display().to_string();
    let empty = stage.file("empty", "");
    let broken = stage.file("broken", "clusters: 1\n");
    // What `kubectl config view` writes for an unset context.
    let unset = stage.file(
        "unset",
        &format!("current-context: \"\"\n{}", entries("", "{name: u, user: {token: third}}")),
    );
    let halves = [
        stage.file("a/clusters", &entries(&format!("{{name: c, cluster: {{{cluster}}}}}"), "")),
        stage.file(
            "b/contexts",
            &format!(
                "current-context: c\nusers: [{{name: u, user: {{token: t}}}}]\n{}",
                context("c", "cluster: c, user: u")
            ),
        ),
    ];
    for (row, works, files) in [
        ("one file", true, &[one.as_str()][..]),
        ("the second is missing", true, &[&one, &gone]),
        ("the first is missing", true, &[&gone, &one]),
        ("all are missing", false, &[&gone]),
        ("the first user of a name wins", true, &[&one, &other]),
        ("the order decides", true, &[&other, &one]),
        ("an empty file", true, &[&empty, &one]),
        ("a file twice", true, &[&one, &one]),
        ("a broken file", false, &[&one, &broken]),
        ("a broken first file", false, &[&broken, &one]),
        ("an unset context is none, and its file's user wins", true, &[&unset, &one]),
        ("two halves", true, &[&halves[0], &halves[1]]),
        ("two halves, the other way", true, &[&halves[1], &halves[0]]),
        ("an empty entry of the list", true, &["", &one, ""]),
        ("a relative name", true, &["one"]),
    ] {
        stage.compare(row, works, &listed(files));
    }
    let mut input = listed(&[&one]);
    input.flags = vec![format!("--kubeconfig={other}")];
    stage.compare("the flag wins over the variable", true, &input);
    input.flags = vec![format!("--kubeconfig={gone}")];
    stage.compare("the file of the flag is missing", false, &input);
    stage.file("home/.kube/config", &kubeconfig(&cluster, "token: at-home"));
    stage.compare("the file at home", true, &Input::default());
    stage.compare("an empty variable means the file at home", true, &listed(&[""]));
}

#[test]
fn relative_paths_belong_to_their_file() {
    let stage = Stage::new();
    let port = stage.server.port();
    let mut files = Vec::new();
    for (folder, token) in [("left", "l"), ("right/deep", "r")] {
        stage.file(&format!("{folder}/ca.pem"), &stage.authority.certificate);
        stage.file(&format!("{folder}/token"), token);
        let cluster = format!("server: 'https://127.0.0.1:{port}', certificate-authority: ca.pem");
        let text = kubeconfig(&cluster, "tokenFile: ./token");
        files.push(stage.file(&format!("{folder}/config"), &text));
    }
    let (left, right) = (files[0].as_str(), files[1].as_str());
    stage.compare("left alone", true, &listed(&[left]));
    stage.compare("right alone", true, &listed(&[right]));
    stage.compare("left first", true, &listed(&[left, right]));
    stage.compare("right first", true, &listed(&[right, left]));
    let up = "server: 'https://127.0.0.1:PORT', certificate-authority: ../ca.pem";
    let file = stage
        .file("left/below/config", &kubeconfig(&up.replace("PORT", &port.to_string()), "token: t"));
    stage.compare("above its folder", true, &listed(&[&file]));
}

#[test]
fn context_cluster_and_user_are_chosen_as_by_kubectl() {
    let stage = Stage::new();
    let cluster = stage.cluster("127.0.0.1");
    let own = Log::clone(&stage.log);
    let plain = api_server("plain", None, own).port();
    let text = format!(
        "current-context: here\n{}contexts:\n\
         - {{name: here, context: {{cluster: c, user: u, namespace: shop}}}}\n\
         - {{name: there, context: {{cluster: p, user: u}}}}\n\
         - {{name: no-user, context: {{cluster: c, user: stranger}}}}\n\
         - {{name: no-cluster, context: {{cluster: gone, user: u}}}}\n\
         - {{name: empty, context: {{cluster: '', user: ''}}}}\n",
        entries(
            &format!(
                "{{name: c, cluster: {{{cluster}}}}}, \
                 {{name: p, cluster: {{server: 'http://127.0.0.1:{plain}'}}}}, \
                 {{name: blank, cluster: {{server: ''}}}}"
            ),
            "{name: u, user: {token: t}}, {name: v, user: {token: w}}",
        )
    );
    let unset = text.replace("current-context: here\n", "");
    let wrong = text.replace("current-context: here\n", "current-context: nowhere\n");
    let address = format!("--server=http://127.0.0.1:{plain}");
    let bare = format!("--server=127.0.0.1:{plain}");
    for (row, works, flags) in [
        ("the current context", true, &[][..]),
        ("another context", true, &["--context=there"]),
        ("an unknown context", false, &["--context=nowhere"]),
        ("another user", true, &["--user=v"]),
        ("an unknown user", false, &["--user=stranger"]),
        ("a context with an unknown user", true, &["--context=no-user", "--token=t"]),
        ("another cluster", true, &["--cluster=p"]),
        ("an unknown cluster", false, &["--cluster=gone"]),
        ("a context with an unknown cluster", false, &["--context=no-cluster"]),
        ("the same with a server", true, &["--context=no-cluster", &address]),
        ("a context without names", false, &["--context=empty"]),
        ("the same with names", true, &["--context=empty", "--cluster=c", "--user=v"]),
        ("a cluster without a server", false, &["--cluster=blank"]),
        ("another server", true, &[&address]),
        ("another server without a scheme", true, &[&bare]),
    ] {
        stage.flags(row, works, &text, flags);
    }
    stage.flags("no context, names by flags", true, &unset, &["--cluster=c", "--user=u"]);
    stage.flags("no context, a cluster by flag", true, &unset, &["--cluster=c", "--token=t"]);
    stage.flags("no context, a server by flag", true, &unset, &[&address]);
    stage.with("no context", false, &unset);
    stage.with("a current context that is not there", false, &wrong);
    let none = Input { flags: vec![address], ..Input::default() };
    stage.compare("no kubeconfig, a server by flag", true, &none);
    stage.compare("nothing at all", false, &Input::default());
}

#[test]
fn credentials_never_cross_plain_http() {
    let stage = Stage::new();
    let own = Log::clone(&stage.log);
    let plain = api_server("plain", None, own).port();
    stage.file("token", "s3cret");
    for (row, user) in [
        ("a token", "token: s3cret"),
        ("a file", "tokenFile: token"),
        ("a missing file", "tokenFile: gone"),
        ("a user", "username: eve, password: s3cret"),
        ("a user to act as", "token: s3cret, as: eve, as-groups: [dba]"),
    ] {
        for server in [format!("http://127.0.0.1:{plain}"), format!("127.0.0.1:{plain}")] {
            stage.with(row, true, &kubeconfig(&format!("server: '{server}'"), user));
        }
    }
    let text = kubeconfig(&format!("server: 'http://127.0.0.1:{plain}'"), "");
    stage.flags("a token by flag", true, &text, &["--token=s3cret"]);
}

#[test]
fn path_of_the_server_is_kept() {
    let stage = Stage::new();
    let cluster = stage.cluster("127.0.0.1");
    for path in ["/", "/k8s/clusters/c-1", "/k8s/clusters/c-1/"] {
        let place = format!(":{}{path}'", stage.server.port());
        let cluster = cluster.replace(&format!(":{}'", stage.server.port()), &place);
        stage.with(path, true, &kubeconfig(&cluster, "token: t"));
    }
}
