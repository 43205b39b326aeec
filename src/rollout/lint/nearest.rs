//! What may have been meant: the operations and namespaces whose names are nearest to what was typed.

use std::collections::BTreeSet;

use strsim::osa_distance;

use super::Operation;

/// How many are named.
const AT_MOST: usize = 3;

/// Namespaces that managed applications often name, as Azure spells them: only to say what may have been meant.
const COMMON: [&str; 46] = [
    "Microsoft.ApiManagement",
    "Microsoft.App",
    "Microsoft.AppConfiguration",
    "Microsoft.Authorization",
    "Microsoft.Automation",
    "Microsoft.Batch",
    "Microsoft.Cache",
    "Microsoft.Cdn",
    "Microsoft.CognitiveServices",
    "Microsoft.Compute",
    "Microsoft.ContainerInstance",
    "Microsoft.ContainerRegistry",
    "Microsoft.ContainerService",
    "Microsoft.CostManagement",
    "Microsoft.DBforMySQL",
    "Microsoft.DBforPostgreSQL",
    "Microsoft.DataFactory",
    "Microsoft.Databricks",
    "Microsoft.DesktopVirtualization",
    "Microsoft.Devices",
    "Microsoft.DocumentDB",
    "Microsoft.EventGrid",
    "Microsoft.EventHub",
    "Microsoft.HDInsight",
    "Microsoft.HybridCompute",
    "Microsoft.Insights",
    "Microsoft.KeyVault",
    "Microsoft.Kusto",
    "Microsoft.Logic",
    "Microsoft.MachineLearningServices",
    "Microsoft.ManagedIdentity",
    "Microsoft.Network",
    "Microsoft.OperationalInsights",
    "Microsoft.RecoveryServices",
    "Microsoft.Resources",
    "Microsoft.Search",
    "Microsoft.Security",
    "Microsoft.ServiceBus",
    "Microsoft.ServiceFabric",
    "Microsoft.SignalRService",
    "Microsoft.Solutions",
    "Microsoft.Sql",
    "Microsoft.Storage",
    "Microsoft.StreamAnalytics",
    "Microsoft.Synapse",
    "Microsoft.Web",
];

/// The operations whose names are nearest to `entry`, those of its own box before others that are as near.
pub fn nearest_operations(entry: &str, operations: &[Operation], is_data: bool) -> Vec<String> {
    // A wildcard at the end stands behind the name of something: that is what may be misspelt.
    if let Some(parent) = entry.strip_suffix("/*") {
        let parents: BTreeSet<&str> = operations
            .iter()
            .flat_map(|operation| operation.name.match_indices('/').map(|(at, _)| &operation.name[..at]))
            .collect();
        let found = nearest(parent, parents.into_iter().map(|name| (name, false)));
        return found.into_iter().map(|name| name + "/*").collect();
    }
    nearest(entry, operations.iter().map(|operation| (operation.name.as_str(), operation.is_data != is_data)))
}

/// The common namespaces whose names are nearest.
pub fn nearest_namespaces(namespace: &str) -> Vec<String> {
    nearest(namespace, COMMON.into_iter().map(|name| (name, false)))
}

/// The nearest of `names`, each with whether another one as near goes first.
fn nearest<'n>(typed: &str, names: impl Iterator<Item = (&'n str, bool)>) -> Vec<String> {
    let typed = plain(typed);
    let limit = (typed.len() / 6).clamp(2, 8);
    let mut near: Vec<(usize, bool, &str)> = names
        .filter(|(name, _)| name.len().abs_diff(typed.len()) <= limit)
        .map(|(name, is_other)| (distance(&typed, &plain(name)), is_other, name))
        .filter(|(distance, ..)| *distance <= limit)
        .collect();
    near.sort_unstable();
    near.into_iter().take(AT_MOST).map(|(.., name)| name.to_owned()).collect()
}

/// How far a name is from what was typed; one that only goes on with one more part is next to it.
fn distance(typed: &str, name: &str) -> usize {
    let goes_on = name.strip_prefix(typed).and_then(|rest| rest.strip_prefix('/'));
    if goes_on.is_some_and(|rest| !rest.contains('/')) { 1 } else { osa_distance(typed, name) }
}

/// Lower-case, and every separator the same, so that a dot for a slash is no distance.
fn plain(name: &str) -> String {
    name.chars().map(|c| if matches!(c, '.' | ':' | '_' | '-') { '/' } else { c.to_ascii_lowercase() }).collect()
}
