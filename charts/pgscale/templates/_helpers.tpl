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
