//! Arguments of `al queue …`.

use argh::FromArgs;

project_command! {
    /// `al queue ls`.
    struct QueueList {
        /// states of items
        #[argh(option)]
        pub(crate) state: Option<String>,
        /// print JSON
        #[argh(switch)]
        pub(crate) json: bool,
        /// an agent
        #[argh(positional)]
        pub(crate) agent: Option<String>,
    }
}

project_command! {
    /// `al queue show`.
    struct QueueShow {
        /// print JSON
        #[argh(switch)]
        #[expect(dead_code, reason = "accepted as everywhere; an item is JSON in any case")]
        pub(crate) json: bool,
        /// number of an item
        #[argh(positional)]
        pub(crate) id: String,
    }
}

project_command! {
    /// `al queue retry`.
    struct QueueRetry {
        /// all dead letters
        #[argh(switch)]
        pub(crate) all_dead: bool,
        /// print JSON
        #[argh(switch)]
        pub(crate) json: bool,
        /// numbers of items
        #[argh(positional)]
        pub(crate) ids: Vec<String>,
    }
}

project_command! {
    /// `al queue drop`.
    struct QueueDrop {
        /// print JSON
        #[argh(switch)]
        pub(crate) json: bool,
        /// numbers of items
        #[argh(positional)]
        pub(crate) ids: Vec<String>,
    }
}

project_command! {
    /// `al queue clear`.
    struct QueueClear {
        /// print JSON
        #[argh(switch)]
        pub(crate) json: bool,
        /// an agent
        #[argh(positional)]
        pub(crate) agent: Option<String>,
    }
}
