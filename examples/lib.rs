//! The package of the examples; each other file in this directory is a program.

/// Compiles the programs of the guide.
#[cfg(all(doctest, feature = "metrics"))]
mod guide {
    #[doc = include_str!("../docs/guide/auth.md")]
    struct Auth;
    #[doc = include_str!("../docs/guide/behind-a-proxy.md")]
    struct BehindAProxy;
    #[doc = include_str!("../docs/guide/chat.md")]
    struct Chat;
    #[doc = include_str!("../docs/guide/cluster.md")]
    struct Cluster;
    #[doc = include_str!("../docs/guide/docker.md")]
    struct Docker;
    #[doc = include_str!("../docs/guide/feed.md")]
    struct Feed;
    #[doc = include_str!("../docs/guide/logs.md")]
    struct Logs;
    #[doc = include_str!("../docs/guide/metrics.md")]
    struct Metrics;
    #[doc = include_str!("../docs/guide/programs.md")]
    struct Programs;
    #[doc = include_str!("../docs/guide/requests.md")]
    struct Requests;
    #[doc = include_str!("../docs/guide/scaling.md")]
    struct Scaling;
    #[doc = include_str!("../docs/guide/systemd.md")]
    struct Systemd;
    #[doc = include_str!("../docs/guide/testing.md")]
    struct Testing;
}
