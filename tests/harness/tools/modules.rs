//! The programs and the Go modules from which they are built. The modules pin every version
//! (`tests/go`).

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::{cache, go};
use crate::progress::Step;

/// A Go module of this crate: only requirements.
pub(super) struct Module {
    /// Its go.mod.
    pub(super) requirements: &'static str,
    /// Its go.sum.
    pub(super) checksums: &'static str,
}

/// The manifests of a program, from its module.
struct Manifests {
    /// The module with the manifests.
    module: &'static str,
    /// Their directory in it.
    directory: &'static str,
    files: &'static [&'static str],
}

/// A program to be built.
pub(super) struct Program {
    name: &'static str,
    /// The version in the name of its cache entry, for people.
    pub(super) version: &'static str,
    package: &'static str,
    module: Module,
    linker_flags: &'static str,
    manifests: Option<Manifests>,
}

/// A built program.
pub(super) struct Build {
    pub(super) program: PathBuf,
    /// The directory of its manifests.
    pub(super) manifests: PathBuf,
}

/// `-s -w` halves the size. The rest is set by the official builds: without it the API server
/// reports version 0.0 and refuses to start.
const KUBERNETES_FLAGS: &str = "-s -w \
    -X k8s.io/component-base/version.gitVersion=v1.36.3 \
    -X k8s.io/component-base/version.gitMajor=1 \
    -X k8s.io/component-base/version.gitMinor=36";

const CONTROL_PLANE: Module = Module {
    requirements: include_str!("../../go/controlplane/go.mod"),
    checksums: include_str!("../../go/controlplane/go.sum"),
};

pub(super) const KUBE_APISERVER: Program =
    kubernetes("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver");

pub(super) const KUBE_CONTROLLER_MANAGER: Program =
    kubernetes("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager");

pub(super) const KUBECTL: Program = kubernetes("kubectl", "k8s.io/kubernetes/cmd/kubectl");

pub(super) const ETCD: Program = Program {
    name: "etcd",
    version: "v3.6.7",
    package: "go.etcd.io/etcd/server/v3",
    module: Module {
        requirements: include_str!("../../go/etcd/go.mod"),
        checksums: include_str!("../../go/etcd/go.sum"),
    },
    linker_flags: "-s -w",
    manifests: None,
};

pub(super) const OPERATOR: Program = Program {
    name: "postgres-operator",
    version: "v1.15.1",
    package: "github.com/zalando/postgres-operator/cmd",
    module: Module {
        requirements: include_str!("../../go/operator/go.mod"),
        checksums: include_str!("../../go/operator/go.sum"),
    },
    linker_flags: "-s -w",
    manifests: Some(Manifests {
        module: "github.com/zalando/postgres-operator",
        directory: "manifests",
        files: &[
            "configmap.yaml",
            "operator-service-account-rbac.yaml",
            "operatorconfiguration.crd.yaml",
            "postgres-operator.yaml",
            "postgresql.crd.yaml",
            "postgresteam.crd.yaml",
        ],
    }),
};

pub(super) const KWOK: Program = Program {
    name: "kwok",
    version: "v0.8.0",
    package: "sigs.k8s.io/kwok/cmd/kwok",
    module: Module {
        requirements: include_str!("../../go/kwok/go.mod"),
        checksums: include_str!("../../go/kwok/go.sum"),
    },
    linker_flags: "-s -w",
    manifests: Some(Manifests {
        module: "sigs.k8s.io/kwok",
        directory: "kustomize/crd/bases",
        files: &["kwok.x-k8s.io_execs.yaml", "kwok.x-k8s.io_portforwards.yaml"],
    }),
};

pub(super) const HELM: Program = Program {
    name: "helm",
    version: "v4.3.1",
    package: "helm.sh/helm/v4/cmd/helm",
    module: Module {
        requirements: include_str!("../../go/helm/go.mod"),
        checksums: include_str!("../../go/helm/go.sum"),
    },
    linker_flags: "-s -w -X helm.sh/helm/v4/internal/version.version=v4.3.1",
    manifests: None,
};

const fn kubernetes(name: &'static str, package: &'static str) -> Program {
    Program {
        name,
        version: "v1.36.3",
        package,
        module: CONTROL_PLANE,
        linker_flags: KUBERNETES_FLAGS,
        manifests: None,
    }
}

impl Program {
    /// Returns the program from the cache, or builds it into the cache.
    pub(super) fn provision(&self) -> Result<Build> {
        let entry = cache::entry(&self.entry(), |directory| {
            let step = Step::begin(format!("building {} {}", self.name, self.version));
            self.build(directory, &step)?;
            step.done();
            Ok(())
        })?;
        Ok(Build { program: entry.join(self.name), manifests: entry.join("manifests") })
    }

    fn build(&self, into: &Path, step: &Step) -> Result<()> {
        let workspace = go::Workspace::new(&self.module)?;
        workspace.build(self.package, self.linker_flags, &into.join(self.name), step)?;
        let Some(manifests) = &self.manifests else { return Ok(()) };
        let from = workspace.directory_of(manifests.module)?.join(manifests.directory);
        let to = into.join("manifests");
        fs::create_dir(&to).with_context(|| format!("failed to make {}", to.display()))?;
        for file in manifests.files {
            // Read and written instead of copied: the module cache is read-only, and so would be a
            // copy.
            let text = fs::read(from.join(file))
                .with_context(|| format!("failed to read {file} of {}", manifests.module))?;
            fs::write(to.join(file), text).with_context(|| format!("failed to write {file}"))?;
        }
        Ok(())
    }

    /// Returns its name in the cache: a change of any version or flag is another entry. The Go
    /// release is no part of the name, because users without Go must find a finished build.
    fn entry(&self) -> String {
        let files = self.manifests.iter().flat_map(|manifests| manifests.files.iter().copied());
        let inputs = [
            std::env::consts::ARCH,
            self.module.requirements,
            self.module.checksums,
            self.package,
            self.linker_flags,
        ];
        let key = cache::key(inputs.into_iter().chain(files));
        format!("{}-{}-{key}", self.name, self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Program; 7] =
        [ETCD, KUBE_APISERVER, KUBE_CONTROLLER_MANAGER, KUBECTL, OPERATOR, KWOK, HELM];

    #[test]
    fn every_version_is_the_one_its_module_requires() {
        for program in ALL {
            let module = &program.module.requirements;
            let required = module.lines().any(|line| {
                let mut words = line.split_whitespace();
                words.next().is_some_and(|path| program.package.starts_with(path))
                    && words.next() == Some(program.version)
            });
            assert!(required, "{} {} is not what its go.mod says", program.name, program.version);
        }
    }

    #[test]
    fn every_program_has_an_entry_of_its_own() {
        let entries: std::collections::BTreeSet<_> = ALL.iter().map(Program::entry).collect();
        assert_eq!(entries.len(), ALL.len());
    }
}
