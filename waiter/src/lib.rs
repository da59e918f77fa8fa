//! The tiny static program that waits in a pod's init container.
