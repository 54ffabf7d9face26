//! The rules in force for a sandbox, swapped whole: its policy, and what the operator answered.

use crate::policy::{Overlay, Policy, Rules};
use arc_swap::ArcSwap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The rules in force. What is live under others is judged again (I7).
#[derive(Debug)]
pub struct Ruling {
    rules: ArcSwap<Rules>,
    epoch: AtomicU64,
    observe: bool,
    /// Held while rules are made from those before.
    making: Mutex<()>,
}

impl Ruling {
    /// `policy` and no answers. With `observe`, what nothing knows is let through and marked.
    pub fn new(policy: Arc<Policy>, observe: bool) -> Arc<Self> {
        let rules = Rules { policy, overlay: Arc::default(), observe, epoch: 1 };
        let rules = ArcSwap::from_pointee(rules);
        Arc::new(Self { rules, epoch: AtomicU64::new(1), observe, making: Mutex::default() })
    }

    /// The rules in force.
    pub fn load(&self) -> arc_swap::Guard<Arc<Rules>> {
        self.rules.load()
    }

    /// Their epoch.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Puts another policy in force.
    pub fn set_policy(&self, policy: Arc<Policy>) {
        self.swap(|rules| (rules.policy, rules.observe) = (policy, self.observe));
    }

    /// Puts a policy in force beside which nothing is let through, observed or not.
    pub fn close(&self, policy: Arc<Policy>) {
        self.swap(|rules| (rules.policy, rules.observe) = (policy, false));
    }

    /// Has what is live judged again under the same rules.
    pub fn renew(&self) {
        self.swap(|_| {});
    }

    /// Puts other answers in force.
    pub fn set_overlay(&self, overlay: Arc<Overlay>) {
        self.swap(|rules| rules.overlay = overlay);
    }

    fn swap(&self, change: impl FnOnce(&mut Rules)) {
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rules = Rules::clone(&self.rules.load());
        change(&mut rules);
        rules.epoch += 1;
        let epoch = rules.epoch;
        self.rules.store(Arc::new(rules));
        self.epoch.store(epoch, Ordering::Release);
    }
}
