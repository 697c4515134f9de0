{{- /* The pod of an expert worker. Arguments: root, coordinator (host:port), and id (an environment reference or ""). */ -}}
{{- define "sheaf.workerPod" -}}
{{- $root := .root }}
{{- $v := $root.Values }}
{{- $part := dict "root" $root "component" "worker" "placement" $v.workers.placement }}
{{- $copy := eq $v.checkpoint.source "copy" }}
metadata:
  labels:
    {{- include "sheaf.podLabels" $part | nindent 4 }}
spec:
  {{- include "sheaf.podSettings" $part | nindent 2 }}
  {{- include "sheaf.spread" $part | trim | nindent 2 }}
  terminationGracePeriodSeconds: {{ $v.workers.graceSeconds }}
  {{- if or $copy $v.checkpoint.verify }}
  initContainers:
    - name: {{ ternary "copy-checkpoint" "verify-checkpoint" $copy }}
      {{- include "sheaf.containerSettings" $root | nindent 6 }}
      {{- if $copy }}
      command: [/usr/libexec/sheaf/copy_checkpoint.sh]
      args:
        - /source/{{ $v.checkpoint.name }}
        - {{ include "sheaf.checkpointPath" $root }}
      {{- else }}
      command: [sheaf]
      args:
        - verify
        - {{ include "sheaf.checkpointPath" $root }}
      {{- end }}
      resources:
        {{- include "sheaf.resources" $v.workers.resources | trim | nindent 8 }}
      volumeMounts:
        - name: checkpoint
          mountPath: /checkpoints
          {{- if not $copy }}
          readOnly: true
          {{- end }}
        {{- if $copy }}
        - name: source
          mountPath: /source
          readOnly: true
        {{- end }}
  {{- end }}
  containers:
    - name: worker
      {{- include "sheaf.containerSettings" $root | nindent 6 }}
      command: [sheaf]
      args:
        - worker
        - {{ include "sheaf.checkpointPath" $root }}
        - --coordinator={{ .coordinator }}
        {{- with .id }}
        - --id=$({{ . }})
        {{- end }}
        - --host=$(POD_IP)
        - --metrics-port={{ $v.workers.metricsPort }}
        {{- if and $v.tls.enabled $v.tls.metrics }}
        - --metrics-tls
        {{- end }}
        - --transport=tcp
        - --exchange-host=$(POD_IP)
        - --exchange-ports={{ $v.workers.exchangePort }}-{{ $v.workers.exchangePort }}
        {{- if eq $v.exchangeIntegrity "none" }}
        - --exchange-integrity=none
        {{- end }}
        {{- with $v.workers.memory }}
        - --memory-bytes={{ . }}
        {{- end }}
        {{- include "sheaf.trustArgs" $root | nindent 8 }}
        {{- include "sheaf.logArgs" $root | nindent 8 }}
        {{- with $v.workers.extraArgs }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      env:
        - name: POD_IP
          valueFrom:
            fieldRef:
              fieldPath: status.podIP
        {{- with .id }}
        - name: {{ . }}
          valueFrom:
            fieldRef:
              fieldPath: metadata.labels['apps.kubernetes.io/pod-index']
        {{- end }}
      ports:
        - name: exchange
          containerPort: {{ $v.workers.exchangePort }}
        - name: metrics
          containerPort: {{ $v.workers.metricsPort }}
      resources:
        {{- $resources := deepCopy $v.workers.resources }}
        {{- with $v.workers.hugepages2Mi }}{{ $_ := set $resources "hugepages-2Mi" . }}{{ end }}
        {{- include "sheaf.resources" $resources | trim | nindent 8 }}
      {{- include "sheaf.quietProbes" (dict "startupSeconds" $v.workers.startupSeconds "tls" (and $v.tls.enabled $v.tls.metrics)) | nindent 6 }}
      volumeMounts:
        {{- include "sheaf.mounts" $root | nindent 8 }}
  volumes:
    {{- if $copy }}
    - name: source
      {{- include "sheaf.checkpointVolume" $root | nindent 6 }}
    {{- else }}
    - name: checkpoint
      {{- include "sheaf.checkpointVolume" $root | nindent 6 }}
    {{- end }}
    {{- include "sheaf.volumes" $root | nindent 4 }}
{{- end }}

{{- /* The disk that a worker copies its checkpoint to. */ -}}
{{- define "sheaf.workerClaims" -}}
{{- if eq .Values.checkpoint.source "copy" }}
volumeClaimTemplates:
  - metadata:
      name: checkpoint
    spec:
      accessModes: [ReadWriteOnce]
      {{- with .Values.checkpoint.copy.storageClassName }}
      storageClassName: {{ . }}
      {{- end }}
      resources:
        requests:
          storage: {{ .Values.checkpoint.copy.size }}
{{- end }}
{{- end }}
