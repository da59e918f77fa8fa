//! The text of every configuration file.
//!
//! Pure. What must stay true: whatever a part would do to the machine outside its namespaces (sysctls, conntrack,
//! images of others) is switched off here; everything else is as Kubernetes ships it, because that is what is tested.

use serde_json::{Value, json};

use crate::images::PAUSE;
use crate::kubernetes::Kubernetes;
use crate::layout::Layout;
use crate::node::Spec;
use crate::pki::Identity;

/// Where the API server listens.
pub(crate) const API_PORT: u16 = 6443;
/// Addresses of Services.
pub(crate) const SERVICES: &str = "10.96.0.0/16";
/// The first of them: the API server's.
pub(crate) const API_SERVICE: &str = "10.96.0.1";
const DNS_SERVICE: &str = "10.96.0.10";
const DOMAIN: &str = "cluster.local";
const PODS: &str = "10.244.0.0/16";
/// How long a kubelet's lease is good; it is renewed four times as often. Once there is a second node the controller
/// manager believes in the loss of a node after half as long again.
const NODE_LEASE_SECONDS: u32 = 8;
/// Fits a node's /24 and, unlike the default of 110, a load test.
const MAX_PODS: u32 = 250;

/// A kubeconfig that needs no file beside it.
pub(crate) fn kubeconfig(name: &str, server: &str, authority: &str, identity: &Identity) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "clusters": [{"name": name, "cluster": {
            "server": server,
            "certificate-authority-data": base64(authority.as_bytes()),
        }}],
        "users": [{"name": name, "user": {
            "client-certificate-data": base64(identity.certificate.as_bytes()),
            "client-key-data": base64(identity.key.as_bytes()),
        }}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
    })
}

/// The kubelet's.
pub(crate) fn kubelet(layout: &Layout, node: Spec, kubernetes: Kubernetes) -> Value {
    let mut config = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": layout.path("pki/ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "clusterDNS": [DNS_SERVICE],
        "clusterDomain": DOMAIN,
        "resolvConf": layout.path("config/resolv.conf"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{}/{}", layout.cgroup(), node.name()),
        "failSwapOn": false,
        // Chains for iptables, which nothing here uses.
        "makeIPTablesUtilChains": false,
        // A full disk must not delete images that no registry has, nor evict the pods under test.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "0%",
            "nodefs.inodesFree": "0%",
            "imagefs.available": "0%",
        },
        "maxPods": MAX_PODS,
        "nodeLeaseDurationSeconds": NODE_LEASE_SECONDS,
    });
    // An earlier one does not know the field, and refuses what it does not know.
    if kubernetes.number() >= 31 {
        config["failCgroupV1"] = json!(false);
    }
    config
}

/// kube-proxy's.
pub(crate) fn proxy(layout: &Layout, node: Spec, kubernetes: Kubernetes) -> Value {
    let mut config = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clusterCIDR": PODS,
        "hostnameOverride": node.name(),
        // Not writable outside the first network namespace.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "clientConnection": {"kubeconfig": layout.path("config/kube-proxy.kubeconfig")},
    });
    if kubernetes.number() < 31 {
        config["featureGates"] = json!({"NFTablesProxyMode": true});
    }
    config
}

/// containerd's.
pub(crate) fn containerd(layout: &Layout) -> String {
    let (bin, runc) = (layout.path("bin"), layout.program("runc"));
    let (bin, runc) = (bin.display(), runc.display());
    // Root may lack CAP_SYS_RESOURCE and sandboxes want a low oom score; the shim is found by PATH.
    format!(
        "version = 3
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = '{PAUSE}'
[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ['{bin}']
conf_dir = '/etc/cni/net.d'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = 'io.containerd.runc.v2'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
BinaryName = '{runc}'
"
    )
}

/// The pod network: every pod at the end of its own cable, everything routed.
pub(crate) fn cni(node: Spec) -> Value {
    json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {"type": "ptp", "ipam": {
                "type": "host-local",
                "subnet": node.pod_subnet(),
                "routes": [{"dst": "0.0.0.0/0"}],
            }},
            {"type": "portmap", "backend": "nftables", "capabilities": {"portMappings": true}},
        ],
    })
}

/// CoreDNS's. Two blocks: in one, the second plugin would answer before the first is asked.
pub(crate) fn corefile(layout: &Layout) -> String {
    let kubeconfig = layout.path("config/coredns.kubeconfig");
    format!(
        "{DOMAIN}:53 in-addr.arpa:53 {{
    errors
    cache 5
    kubernetes {{
        kubeconfig {}
    }}
}}
.:53 {{
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
",
        kubeconfig.display()
    )
}

/// What pods on the host's network ask.
pub(crate) fn resolv_conf(node: Spec) -> String {
    format!("nameserver {}\n", node.address())
}

/// The Service that leads to CoreDNS, which is no pod.
pub(crate) fn dns_service(node: Spec) -> Value {
    let ports = [("dns", "UDP"), ("dns-tcp", "TCP")];
    let ports = ports.map(|(name, protocol)| json!({"name": name, "protocol": protocol, "port": 53}));
    json!({
        "apiVersion": "v1",
        "kind": "List",
        "items": [
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": {"k8s-app": "kube-dns"}},
                "spec": {"clusterIP": DNS_SERVICE, "ports": ports},
            },
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {
                    "name": "kube-dns",
                    "namespace": "kube-system",
                    "labels": {"kubernetes.io/service-name": "kube-dns"},
                },
                "addressType": "IPv4",
                "ports": ports,
                "endpoints": [{"addresses": [node.address()], "conditions": {"ready": true}}],
            },
        ],
    })
}

/// As kubeconfigs want it; four lines are no reason for a crate.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group =
            (0..3).fold(0, |group, index| group << 8 | usize::from(chunk.get(index).copied().unwrap_or(0)));
        for place in 0..4 {
            let letter = LETTERS.get(group >> (18 - 6 * place) & 63).copied().unwrap_or(b'=');
            text.push(if place > chunk.len() { '=' } else { char::from(letter) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> Layout {
        Layout::new("default").unwrap()
    }

    #[test]
    fn base64_pads_to_four_letters() {
        let cases = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")];
        for (plain, coded) in cases {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
        assert_eq!(base64(&[0xff, 0xfe, 0xfd]), "//79");
    }

    #[test]
    fn nothing_of_the_machine_is_the_kubelets_or_the_proxys_to_change() {
        let (kubelet, proxy) = (
            kubelet(&layout(), Spec::FIRST, Kubernetes::DEFAULT),
            proxy(&layout(), Spec::FIRST, Kubernetes::DEFAULT),
        );
        assert_eq!(kubelet["makeIPTablesUtilChains"], false);
        assert_eq!(kubelet["imageGCHighThresholdPercent"], 100);
        assert_eq!(proxy["conntrack"]["maxPerCore"], 0);
        assert_eq!(proxy["conntrack"]["min"], 0);
    }

    #[test]
    fn clusters_have_cgroups_of_their_own() {
        let root = |name: &str| {
            kubelet(&Layout::new(name).unwrap(), Spec::FIRST, Kubernetes::DEFAULT)["cgroupRoot"].clone()
        };
        assert_eq!(root("default"), "/konductor-default/n1");
        assert_ne!(root("default"), root("other"));
    }

    #[test]
    fn a_service_name_is_answered_before_everything_else_is_refused() {
        let text = corefile(&layout());
        let (first, second) = text.split_once("\n.:53 {").unwrap();
        assert!(first.contains("kubernetes {") && !first.contains("template"), "{text}");
        assert!(second.contains("template ANY ANY"), "{text}");
    }

    #[test]
    fn the_sandbox_image_is_the_one_that_is_imported() {
        assert!(containerd(&layout()).contains(&format!("sandbox = '{PAUSE}'")));
    }

    #[test]
    fn the_dns_service_leads_to_the_node() {
        let list = dns_service(Spec::FIRST);
        assert_eq!(
            list["items"][0]["spec"]["clusterIP"],
            kubelet(&layout(), Spec::FIRST, Kubernetes::DEFAULT)["clusterDNS"][0]
        );
        assert_eq!(list["items"][1]["endpoints"][0]["addresses"][0], Spec::FIRST.address());
    }

    #[test]
    fn pods_of_a_node_get_addresses_of_its_subnet() {
        assert_eq!(cni(Spec::FIRST)["plugins"][0]["ipam"]["subnet"], "10.244.1.0/24");
    }
}
