{{/* CEL that the policies share. Each takes the name of the object variable: object or oldObject. */}}

{{- define "konductor.cel.annotations" -}}
{{ . }}.metadata.?annotations.orValue({})
{{- end -}}

{{/* Is anything of ours on it? Cheap: this is asked about every pod and every Job. */}}
{{- define "konductor.cel.ours" -}}
{{ include "konductor.cel.annotations" . }}.exists(k, k.startsWith('konductor.io/')) || 'konductor.io/participant' in {{ . }}.metadata.?labels.orValue({}) || {{ . }}.metadata.?finalizers.orValue([]).exists(f, f == 'konductor.io/hold')
{{- end -}}

{{/* The annotations by which a workload takes part, in a map of that name. */}}
{{- define "konductor.cel.participates" -}}
['konductor.io/gate', 'konductor.io/waitgroup', 'konductor.io/waitgroup-wait', 'konductor.io/barrier', 'konductor.io/barrier-wait', 'konductor.io/barrier-arrive', 'konductor.io/semaphore', 'konductor.io/rwmutex-read', 'konductor.io/rwmutex-write', 'konductor.io/mutex', 'konductor.io/lease', 'konductor.io/once', 'konductor.io/job-plan'].exists(k, k in {{ . }})
{{- end -}}

{{/* What only the operator writes, in a map of that name. */}}
{{- define "konductor.cel.forged" -}}
{{ . }}.exists(k, k == 'konductor.io/grant' || k == 'konductor.io/nudged' || k == 'konductor.io/renewed' || k.startsWith('konductor.io/token-'))
{{- end -}}

{{/* Our keys are the same in two maps: (list "variables.now" "variables.was") */}}
{{- define "konductor.cel.unchanged" -}}
{{- $now := index . 0 -}}{{- $was := index . 1 -}}
{{ $now }}.all(k, !k.startsWith('konductor.io/') || (k in {{ $was }} && {{ $was }}[k] == {{ $now }}[k])) && {{ $was }}.all(k, !k.startsWith('konductor.io/') || k in {{ $now }})
{{- end -}}

{{- define "konductor.cel.notOperator" -}}
request.userInfo.username != '{{ include "konductor.controllerUser" . }}'
{{- end -}}

{{/* Names of the excluded namespaces as a sentence has them. */}}
{{- define "konductor.excludedNamespacesSentence" -}}
{{ include "konductor.excludedNamespaces" . | fromJsonArray | join ", " }}
{{- end -}}

{{/* Metadata of a policy: (dict "root" $ "name" "pod-create") */}}
{{- define "konductor.policyMetadata" -}}
name: {{ include "konductor.fullname" .root }}-{{ .name }}
labels:
  {{- include "konductor.labels" (dict "root" .root "component" "policy") | nindent 2 }}
{{- end -}}

{{/* The binding that puts a policy into force everywhere. */}}
{{- define "konductor.policyBinding" -}}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  {{- include "konductor.policyMetadata" . | nindent 2 }}
spec:
  policyName: {{ include "konductor.fullname" .root }}-{{ .name }}
  validationActions: [Deny]
{{- end -}}
