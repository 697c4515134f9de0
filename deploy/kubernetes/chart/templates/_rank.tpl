{{- /*
The attention ranks of a router beside the router itself, which is rank 0: containers of its pod, since a group is of use
only whole. The scheduler finds room for all of them or for none, they reach each other by shared memory, and nothing of it
is open to other pods. As sidecars they are there before the router and until it has ended, and a lost one comes back
without the others.
*/ -}}
{{- define "sheaf.rankContainers" -}}
{{- $v := .Values }}
{{- if gt (int $v.router.tensorParallelSize) 1 }}
{{- if $v.router.kvOffload }}{{ fail "router.kvOffload: wanted with router.tensorParallelSize 1, since other ranks keep no blocks that leave their cache" }}{{ end }}
{{- $metricsTls := and $v.tls.enabled $v.tls.metrics }}
initContainers:
  {{- range $rank := untilStep 1 (int $v.router.tensorParallelSize) 1 }}
  - name: rank-{{ $rank }}
    restartPolicy: Always
    {{- include "sheaf.containerSettings" $ | nindent 4 }}
    command: [sheaf]
    args:
      - attention
      - {{ include "sheaf.checkpointPath" $ }}
      - --router=127.0.0.1:{{ $v.router.ranks.port }}
      - --rank={{ $rank }}
      - --host=$(POD_IP)
      - --metrics-port={{ add $v.router.ranks.metricsPort $rank -1 }}
      {{- if $metricsTls }}
      - --metrics-tls
      {{- end }}
      {{- if eq $v.exchangeIntegrity "none" }}
      - --exchange-integrity=none
      {{- end }}
      {{- include "sheaf.trustArgs" $ | nindent 6 }}
      {{- include "sheaf.logArgs" $ | nindent 6 }}
      {{- with $v.router.ranks.extraArgs }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    env:
      - name: POD_IP
        valueFrom:
          fieldRef:
            fieldPath: status.podIP
    ports:
      - name: rank-{{ $rank }}
        containerPort: {{ add $v.router.ranks.metricsPort $rank -1 }}
    resources:
      {{- include "sheaf.resources" $v.router.ranks.resources | trim | nindent 6 }}
    {{- include "sheaf.quietProbes" (dict "startupSeconds" $v.router.startupSeconds "tls" $metricsTls "port" (printf "rank-%d" $rank)) | nindent 4 }}
    volumeMounts:
      {{- include "sheaf.mounts" $ | nindent 6 }}
  {{- end }}
{{- end }}
{{- end }}
