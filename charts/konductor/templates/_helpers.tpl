{{/* The name of everything: the release's, with the chart's in it. */}}
{{- define "konductor.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "konductor.controllerName" -}}
{{ include "konductor.fullname" . }}-controller-manager
{{- end -}}

{{- define "konductor.webhookName" -}}
{{ include "konductor.fullname" . }}-webhook
{{- end -}}

{{- define "konductor.caSecretName" -}}
{{ include "konductor.fullname" . }}-ca
{{- end -}}

{{- define "konductor.sessionsName" -}}
{{ include "konductor.fullname" . }}-sessions
{{- end -}}

{{/* Where cert-manager puts the certificate of the sessions. */}}
{{- define "konductor.sessionsTlsSecretName" -}}
{{ include "konductor.sessionsName" . }}-tls
{{- end -}}

{{/* A spec of a Certificate for a Service: (dict "root" $ "name" "konductor-webhook" "secret" "konductor-webhook-tls") */}}
{{- define "konductor.servingCertificate" -}}
{{- $service := printf "%s.%s" .name .root.Release.Namespace -}}
secretName: {{ .secret }}
duration: {{ .root.Values.webhook.certManager.duration }}
dnsNames:
  - {{ $service }}.svc
  - {{ $service }}.svc.cluster.local
  - {{ $service }}
  - {{ .name }}
usages: [digital signature, server auth]
privateKey: {algorithm: ECDSA, size: 256, rotationPolicy: Always}
issuerRef:
  {{- with .root.Values.webhook.certManager.issuerRef }}
  {{- toYaml . | nindent 2 }}
  {{- else }}
  {kind: Issuer, name: {{ include "konductor.webhookName" .root }}-ca}
  {{- end }}
{{- end -}}

{{/* Replicas keep apart from each other where they can: (dict "root" $ "component" "webhook" "affinity" .Values.webhook.affinity) */}}
{{- define "konductor.affinity" -}}
affinity:
  {{- if .affinity }}
  {{- toYaml .affinity | nindent 2 }}
  {{- else }}
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              {{- include "konductor.selectorLabels" . | nindent 14 }}
  {{- end }}
{{- end -}}

{{/* Where cert-manager puts the webhook's certificate. */}}
{{- define "konductor.tlsSecretName" -}}
{{ include "konductor.webhookName" . }}-tls
{{- end -}}

{{/* By which cert-manager knows what to set as caBundle. */}}
{{- define "konductor.caInjection" -}}
{{- if .Values.webhook.certManager.enabled -}}
annotations:
  cert-manager.io/inject-ca-from: {{ .Release.Namespace }}/{{ include "konductor.webhookName" . }}
{{- end -}}
{{- end -}}

{{- define "konductor.controllerServiceAccount" -}}
{{ default (include "konductor.controllerName" .) .Values.serviceAccount.name }}
{{- end -}}

{{- define "konductor.webhookServiceAccount" -}}
{{ default (include "konductor.webhookName" .) .Values.webhook.serviceAccount.name }}
{{- end -}}

{{/* The operator as the API server knows it. */}}
{{- define "konductor.controllerUser" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ include "konductor.controllerServiceAccount" . }}
{{- end -}}

{{- define "konductor.selectorLabels" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end -}}

{{/* Labels of an object: (dict "root" $ "component" "webhook") */}}
{{- define "konductor.labels" -}}
{{ include "konductor.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* An image reference: (dict "root" $ "image" .Values.image) */}}
{{- define "konductor.image" -}}
{{- $repository := .image.repository -}}
{{- with .root.Values.global.registry -}}
{{- $parts := splitList "/" $repository -}}
{{- $first := first $parts -}}
{{- if and (gt (len $parts) 1) (or (contains "." $first) (contains ":" $first) (eq $first "localhost")) -}}
{{- $parts = rest $parts -}}
{{- end -}}
{{- $repository = printf "%s/%s" (trimSuffix "/" .) (join "/" $parts) -}}
{{- end -}}
{{- if .image.digest -}}
{{ $repository }}@{{ .image.digest }}
{{- else -}}
{{ $repository }}:{{ default .root.Chart.AppVersion .image.tag }}
{{- end -}}
{{- end -}}

{{/* The namespaces that the webhook leaves out. */}}
{{- define "konductor.excludedNamespaces" -}}
{{ list "kube-system" "kube-node-lease" .Release.Namespace | uniq | toJson }}
{{- end -}}

{{/* Where admission is ours: not in excluded namespaces (our own, the node's), and not where the glass was broken. */}}
{{- define "konductor.namespaceSelector" -}}
matchExpressions:
  - key: kubernetes.io/metadata.name
    operator: NotIn
    values: {{ include "konductor.excludedNamespaces" . }}
  - {{ include "konductor.unlessBroken" . }}
{{- end -}}

{{/* The label by which an administrator takes a namespace out, see docs: Break the glass. */}}
{{- define "konductor.unlessBroken" -}}
{key: konductor.io/break-glass, operator: DoesNotExist}
{{- end -}}

{{/* The port in ":8080" or "127.0.0.1:8080". */}}
{{- define "konductor.portOf" -}}
{{ splitList ":" . | last }}
{{- end -}}

{{/* What every pod of ours says about where it may run: (dict "root" $ "values" .Values.webhook) */}}
{{- define "konductor.podPlacement" -}}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}
