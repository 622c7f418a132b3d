{{/* The labels that select the webhook's pods. They can never change. */}}
{{- define "pgscale.selector" -}}
app.kubernetes.io/name: pgscale-webhook
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "pgscale.labels" -}}
{{ include "pgscale.selector" . }}
app.kubernetes.io/part-of: pgscale
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* An image of the values: the root, and the value. */}}
{{- define "pgscale.image" -}}
{{- $root := index . 0 -}}
{{- with index . 1 -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $root.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end }}

{{/* The way to the API server, as an item of egress: the root. */}}
{{- define "pgscale.toApiServer" -}}
{{- with .Values.networkPolicy -}}
# The API server.
- ports:
    {{- range .apiServerPorts }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
  {{- with .apiServer }}
  to: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end }}

{{/* The way to DNS, as an item of egress where it is wanted: the root. */}}
{{- define "pgscale.toDns" -}}
{{- if .Values.networkPolicy.dns -}}
# DNS, which may answer on an address of the node. OpenShift's pods answer on 5353.
- ports:
    {{- range $port := list 53 5353 }}
    {{- range $protocol := list "UDP" "TCP" }}
    - {protocol: {{ $protocol }}, port: {{ $port }}}
    {{- end }}
    {{- end }}
{{- end }}
{{- end }}

{{/* A priority class of the system. Some clusters admit it in other namespaces only under a quota. */}}
{{- define "pgscale.quota" -}}
{{- with .Values -}}
{{- if and .criticalPods.quota (hasPrefix "system-" .priorityClassName) (ne $.Release.Namespace "kube-system") -}}
yes
{{- end -}}
{{- end -}}
{{- end }}

{{/* Whether an object of the Prometheus operator is wanted: true, false, or auto, where the cluster has its kinds. */}}
{{- define "pgscale.monitored" -}}
{{- $wanted := toString (index . 1) -}}
{{- if or (eq $wanted "true") (and (eq $wanted "auto") ((index . 0).Capabilities.APIVersions.Has "monitoring.coreos.com/v1")) -}}
yes
{{- end -}}
{{- end }}
