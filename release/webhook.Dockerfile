# The webhook alone: a static program, without a shell and without a C library. Built by .ci/release.
FROM scratch
COPY pgscale-webhook /pgscale-webhook
# As in the chart (podSecurityContext). A number: the kubelet checks runAsNonRoot by it.
USER 65532:65532
ENTRYPOINT ["/pgscale-webhook"]
