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

{{- define "pgscale.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
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
