//! The certificate authority of the webhook: issue, publish, hot-swap.
