{{- /* The pod of a router. Arguments: root, grouped (the coordinator is inside and workers are of its group). */ -}}
{{- define "sheaf.routerPod" -}}
{{- $root := .root }}
{{- $v := $root.Values }}
{{- $part := dict "root" $root "component" "router" "placement" $v.router.placement }}
metadata:
  labels:
    {{- include "sheaf.podLabels" $part | nindent 4 }}
spec:
  {{- include "sheaf.podSettings" $part | nindent 2 }}
  {{- include "sheaf.spread" $part | trim | nindent 2 }}
  terminationGracePeriodSeconds: {{ add $v.router.preStopSeconds $v.router.drainSeconds 15 }}
  {{- with include "sheaf.rankContainers" $root | trim }}
  {{- . | nindent 2 }}
  {{- end }}
  containers:
    - name: router
      {{- include "sheaf.containerSettings" $root | nindent 6 }}
      command: [sheaf]
      args:
        - router
        - {{ include "sheaf.checkpointPath" $root }}
        {{- if .grouped }}
        - --workers={{ $v.workers.count }}
        - --expert-replicas={{ $v.coordinator.expertReplicas }}
        - --lease-ms={{ $v.coordinator.leaseMs }}
        - --cluster-host={{ $v.listenHost }}
        - --cluster-port={{ $v.coordinator.clusterPort }}
        {{- else }}
        - --coordinator={{ include "sheaf.coordinator" $root }}
        {{- end }}
        - --host={{ $v.listenHost }}
        - --port={{ $v.router.httpPort }}
        - --grpc-port={{ $v.router.grpcPort }}
        {{- if gt (int $v.router.tensorParallelSize) 1 }}
        - --tensor-parallel-size={{ $v.router.tensorParallelSize }}
        - --attention-port={{ $v.router.ranks.port }}
        - --transport=auto # workers say TCP
        {{- else }}
        - --transport=tcp
        {{- end }}
        {{- if eq $v.exchangeIntegrity "none" }}
        - --exchange-integrity=none
        {{- end }}
        - --served-model-name
        - {{ $v.checkpoint.name }}
        {{- range $v.checkpoint.servedNames }}
        - {{ . }}
        {{- end }}
        {{- if $v.router.maxModelLen }}
        - --max-model-len={{ int64 $v.router.maxModelLen }}
        {{- end }}
        - --max-num-seqs={{ $v.router.maxNumSeqs }}
        - --kv-cache-dtype={{ $v.router.kvCacheDtype }}
        - --kv-cache-memory-bytes={{ $v.router.kvCacheMemory }}
        {{- if $v.router.kvOffload }}
        - --kv-offload-bytes={{ $v.router.kvOffload }}B
        - --kv-offload-path=/var/lib/sheaf/kv
        {{- end }}
        - --shutdown-timeout-ms={{ mul $v.router.drainSeconds 1000 }}
        {{- include "sheaf.trustArgs" $root | nindent 8 }}
        {{- with include "sheaf.clientTlsArgs" $root | trim }}
        {{- . | nindent 8 }}
        {{- end }}
        {{- include "sheaf.logArgs" $root | nindent 8 }}
        {{- if $v.tracing.endpoint }}
        - --otlp-endpoint={{ $v.tracing.endpoint }}
        - --trace-sample-ratio={{ $v.tracing.sampleRatio }}
        {{- end }}
        {{- with $v.router.extraArgs }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        - name: http
          containerPort: {{ $v.router.httpPort }}
        - name: grpc
          containerPort: {{ $v.router.grpcPort }}
        {{- if .grouped }}
        - name: cluster
          containerPort: {{ $v.coordinator.clusterPort }}
        {{- end }}
      resources:
        {{- include "sheaf.resources" $v.router.resources | trim | nindent 8 }}
      {{- $scheme := ternary "HTTPS" "HTTP" $v.tls.enabled }}
      startupProbe:
        httpGet:
          path: /live
          port: http
          scheme: {{ $scheme }}
        periodSeconds: 5
        timeoutSeconds: 2
        failureThreshold: {{ div (add $v.router.startupSeconds 4) 5 }}
      livenessProbe:
        {{- if $v.tls.enabled }}
        httpGet:
          path: /live
          port: http
          scheme: HTTPS
        {{- else }}
        grpc:
          port: {{ $v.router.grpcPort }}
        {{- end }}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet:
          path: /ready
          port: http
          scheme: {{ $scheme }}
        periodSeconds: 1
        timeoutSeconds: 2
        failureThreshold: 3
      lifecycle:
        preStop:
          sleep:
            seconds: {{ $v.router.preStopSeconds }}
      volumeMounts:
        {{- include "sheaf.mounts" $root | nindent 8 }}
        {{- if $v.router.kvOffload }}
        - name: kv-offload
          mountPath: /var/lib/sheaf/kv
        {{- end }}
  volumes:
    - name: checkpoint
      {{- include "sheaf.checkpointVolume" $root | nindent 6 }}
    {{- include "sheaf.volumes" $root | nindent 4 }}
    {{- with $v.router.kvOffload }}
    - name: kv-offload
      emptyDir:
        sizeLimit: {{ . }}
    {{- end }}
{{- end }}
