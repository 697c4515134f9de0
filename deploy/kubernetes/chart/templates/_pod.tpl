{{- /* What all pods have in common. Arguments: root, component, placement. */ -}}
{{- define "sheaf.podSettings" -}}
serviceAccountName: {{ include "sheaf.name" .root }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- with .placement.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .placement.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .placement.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{- define "sheaf.containerSettings" -}}
image: {{ include "sheaf.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
terminationMessagePolicy: FallbackToLogsOnError
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end }}

{{- define "sheaf.logArgs" -}}
- --log-level={{ .Values.log.level }}
- --log-format={{ .Values.log.format }}
{{- end }}

{{- /* Who may join, and with what: of every process of the cluster. */ -}}
{{- define "sheaf.trustArgs" -}}
- --cluster-token-file=/etc/sheaf/token/{{ .Values.clusterToken.key }}
{{- if .Values.tls.enabled }}
- --cluster-tls-cert=/etc/sheaf/tls/tls.crt
- --cluster-tls-key=/etc/sheaf/tls/tls.key
- --cluster-tls-ca=/etc/sheaf/tls/ca.crt
{{- range default (list (printf "spiffe://cluster.local/ns/%s/sa/%s" .Release.Namespace (include "sheaf.name" .))) .Values.tls.allowedNames }}
- --cluster-allowed-names={{ . }}
{{- end }}
{{- end }}
{{- end }}

{{- /* What a router shows its clients. */ -}}
{{- define "sheaf.clientTlsArgs" -}}
{{- if .Values.tls.enabled }}
- --tls-cert=/etc/sheaf/tls/tls.crt
- --tls-key=/etc/sheaf/tls/tls.key
{{- if .Values.tls.clientCa }}
- --tls-client-ca=/etc/sheaf/tls/ca.crt
{{- end }}
{{- end }}
{{- end }}

{{- define "sheaf.resources" -}}
{{- range $kind := list "requests" "limits" }}
{{ $kind }}:
  {{- range $name, $value := $ }}
  {{ $name }}: {{ $value | quote }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "sheaf.mounts" -}}
- name: checkpoint
  mountPath: /checkpoints
  readOnly: true
- name: token
  mountPath: /etc/sheaf/token
  readOnly: true
{{- if .Values.tls.enabled }}
- name: tls
  mountPath: /etc/sheaf/tls
  readOnly: true
{{- end }}
{{- if .Values.sharedMemory }}
- name: shared-memory
  mountPath: /dev/shm
{{- end }}
{{- end }}

{{- define "sheaf.checkpointVolume" -}}
{{- if eq .Values.checkpoint.source "hostPath" -}}
hostPath:
  path: {{ .Values.checkpoint.hostPath.path }}
  type: Directory
{{- else -}}
persistentVolumeClaim:
  claimName: {{ .Values.checkpoint.pvc.claimName }}
  readOnly: true
{{- end }}
{{- end }}

{{- define "sheaf.volumes" -}}
- name: token
  secret:
    secretName: {{ .Values.clusterToken.existingSecret }}
    defaultMode: 0440
{{- if .Values.tls.enabled }}
- name: tls
  secret:
    secretName: {{ .Values.tls.existingSecret }}
    defaultMode: 0440
{{- end }}
{{- with .Values.sharedMemory }}
- name: shared-memory
  emptyDir:
    medium: Memory
    sizeLimit: {{ . }}
{{- end }}
{{- end }}

{{- /* Probes of a process whose only HTTP port is that of its metrics. Arguments: startupSeconds, tls, port (its name; metrics). */ -}}
{{- define "sheaf.quietProbes" -}}
startupProbe:
  httpGet:
    path: /live
    port: {{ .port | default "metrics" }}
    {{- if .tls }}
    scheme: HTTPS
    {{- end }}
  periodSeconds: 5
  timeoutSeconds: 2
  failureThreshold: {{ div (add .startupSeconds 4) 5 }}
livenessProbe:
  httpGet:
    path: /live
    port: {{ .port | default "metrics" }}
    {{- if .tls }}
    scheme: HTTPS
    {{- end }}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet:
    path: /ready
    port: {{ .port | default "metrics" }}
    {{- if .tls }}
    scheme: HTTPS
    {{- end }}
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 3
{{- end }}

{{- /* Away from its like, as far as there are nodes. Arguments: root, component, placement. */ -}}
{{- define "sheaf.spread" -}}
{{- if .placement.affinity }}
affinity:
  {{- toYaml .placement.affinity | nindent 2 }}
{{- else if and (eq .component "worker") .root.Values.workers.onePerNode }}
affinity:
  podAntiAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      - topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels:
            {{- include "sheaf.selector" . | nindent 12 }}
{{- else }}
affinity:
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              {{- include "sheaf.selector" . | nindent 14 }}
{{- end }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "sheaf.selector" . | nindent 8 }}
  - maxSkew: 1
    topologyKey: topology.kubernetes.io/zone
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "sheaf.selector" . | nindent 8 }}
{{- end }}
