//! The programs that a session reaches beside the API server.

use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use pgscale_guard::read::{Address, MemberClient, RestRequest, RestResponse};

use super::{HANGS, World};
use crate::exec::{Exec, ExecError};
use crate::helm::{Call, Helm, HelmError};

impl MemberClient for World {
    fn exchange<'a>(
        &'a self,
        pod: &'a Address,
        request: RestRequest,
    ) -> BoxFuture<'a, Result<RestResponse, String>> {
        async move { self.0.lock().unwrap().say(&pod.pod, &request) }.boxed()
    }
}

/// There is no helm here. The tests of `install` have one of their own.
impl Helm for World {
    fn run(&self, _: Call) -> BoxFuture<'_, Result<String, HelmError>> {
        async { Err(HelmError::Missing) }.boxed()
    }
}

impl Exec for World {
    fn run<'a>(
        &'a self,
        pod: &'a Address,
        command: Vec<String>,
        _: Duration,
    ) -> BoxFuture<'a, Result<String, ExecError>> {
        async move {
            let output = self.0.lock().unwrap().run(&pod.pod, &command);
            if output == Err(ExecError::Failed(HANGS.to_owned())) {
                return std::future::pending().await;
            }
            output
        }
        .boxed()
    }
}
