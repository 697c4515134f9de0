{{- define "sheaf.name" -}}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{- end }}

{{- define "sheaf.selector" -}}
app.kubernetes.io/name: sheaf
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "sheaf.labels" -}}
{{ include "sheaf.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: sheaf
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end }}

{{- define "sheaf.podLabels" -}}
{{ include "sheaf.labels" . }}
{{- if eq .component "router" }}
llm-d.ai/engine-type: vllm
llm-d.ai/inference-serving: "true"
llm-d.ai/model: {{ .root.Values.checkpoint.name }}
{{- end }}
{{- end }}

{{- define "sheaf.image" -}}
{{ .Values.image.repository }}{{ with .Values.image.digest }}@{{ . }}{{ else }}:{{ .Values.image.tag }}{{ end }}
{{- end }}

{{- define "sheaf.coordinator" -}}
{{ include "sheaf.name" . }}-coordinator:{{ .Values.coordinator.clusterPort }}
{{- end }}

{{- define "sheaf.grouped" -}}{{ if eq .Values.workers.kind "LeaderWorkerSet" }}yes{{ end }}{{- end }}

{{- define "sheaf.checkpointPath" -}}/checkpoints/{{ .Values.checkpoint.name }}{{- end }}
