# The plugin alone, for `helm test` and for jobs: a static program. Built by .ci/release.
FROM scratch
COPY kubectl-pgscale /kubectl-pgscale
# As in the chart (podSecurityContext). A number: the kubelet checks runAsNonRoot by it.
USER 65532:65532
ENTRYPOINT ["/kubectl-pgscale"]
