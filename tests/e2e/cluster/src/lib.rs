//! A real Kubernetes for the tests, built from Go modules and run in its own namespaces.
