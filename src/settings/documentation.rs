//! Every setting by name, default and meaning: for the documentation, the sample settings and `doctor`.

/// One setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettingDoc {
    /// Its name in the environment.
    pub name: &'static str,
    /// Its value where it is absent; none where absence means that something is off.
    pub default: Option<&'static str>,
    /// What it is for.
    pub meaning: &'static str,
}

const fn with(name: &'static str, default: &'static str, meaning: &'static str) -> SettingDoc {
    SettingDoc { name, default: Some(default), meaning }
}

const fn without(name: &'static str, meaning: &'static str) -> SettingDoc {
    SettingDoc { name, default: None, meaning }
}

/// Every setting, in the order of design §7.
pub const ALL: &[SettingDoc] = &[
    with(
        "STATE_STORE",
        "sqlite:permafresh.db",
        "where state is kept: sqlite:PATH, or tables for Azure Table Storage; sqlite is refused inside Azure",
    ),
    without(
        "AzureWebJobsStorage",
        "storage account by connection string; UseDevelopmentStorage=true means Azurite on this machine",
    ),
    without("AzureWebJobsStorage__accountName", "storage account by name, reached with an identity"),
    without(
        "AzureWebJobsStorage__tableServiceUri",
        "address of the storage account's tables, reached with an identity",
    ),
    without("AzureWebJobsStorage__credential", "managedidentity, or absent for the identity of AZURE_…"),
    without("AzureWebJobsStorage__clientId", "client id of a user-assigned managed identity"),
    without(
        "ServiceBusConnection",
        "Service Bus by connection string; UseDevelopmentEmulator=true means the emulator on this machine; absent means the embedded queue",
    ),
    without(
        "ServiceBusConnection__fullyQualifiedNamespace",
        "Service Bus by host name of the namespace, reached with an identity",
    ),
    without("ServiceBusConnection__credential", "managedidentity, or absent for the identity of AZURE_…"),
    without("ServiceBusConnection__clientId", "client id of a user-assigned managed identity"),
    with("ROLLOUT_QUEUE", "rollouts", "queue that plans rollouts"),
    with("REFRESH_QUEUE", "refreshes", "queue that refreshes deployments"),
    with("POLL_SCHEDULE", "*/15 * * * * *", "when outstanding operations are polled (NCRONTAB, here every 15 seconds)"),
    with(
        "BULK_REFRESH_SCHEDULE",
        "0 0 3 * * 0",
        "when every deployment is brought to its wanted version (Sundays, 03:00 UTC)",
    ),
    with("WATCH_OFFERS_SCHEDULE", "0 */5 * * * *", "when Partner Center is asked for new versions (every 5 minutes)"),
    with("SYNC_SCHEDULE", "0 30 2 * * *", "when missed deployments are looked for (daily, 02:30 UTC)"),
    with("RENEW_TOKENS_SCHEDULE", "0 0 4 * * *", "when the GDAP refresh token is renewed (daily, 04:00 UTC)"),
    with("MODE", "act", "act, or observe: plan, lint and report, but never call refreshPermissions"),
    with("ARM_ENDPOINT", "https://management.azure.com", "Azure Resource Manager; another one in sovereign clouds"),
    with(
        "ARM_AUDIENCE",
        "https://management.azure.com",
        "audience of its tokens; absent means what the cloud of ARM_ENDPOINT takes",
    ),
    with("ARM_API_VERSION", "2019-07-01", "API version of Microsoft.Solutions"),
    with("ARM_MAX_CONCURRENCY", "64", "calls to Azure Resource Manager at once, per process"),
    without("AZURE_TENANT_ID", "tenant of the publisher's identity"),
    without("AZURE_CLIENT_ID", "app registration, or user-assigned managed identity where there is no secret"),
    without("AZURE_CLIENT_SECRET", "secret of the app registration"),
    without(
        "AZURE_MANAGED_IDENTITY_CLIENT_ID",
        "managed identity that stands for the app registration AZURE_CLIENT_ID, in the place of a secret",
    ),
    without(
        "AZURE_ADDITIONALLY_ALLOWED_TENANTS",
        "customers' tenants in which the app registration may ask for tokens: ids with ; between them, or *",
    ),
    without("IDENTITY_ENDPOINT", "set by Azure where there is a managed identity"),
    without("IDENTITY_HEADER", "set by Azure where there is a managed identity"),
    with(
        "AZURE_AUTHORITY_HOST",
        "https://login.microsoftonline.com",
        "Microsoft Entra; another one in sovereign clouds",
    ),
    without(
        "NOTIFICATION_SIG",
        "accepted values of ?sig= in the notification endpoint, with commas between; absent means that notifications are refused",
    ),
    with("OFFERS", "[]", "offers and plans to look after, as JSON"),
    with("VERIFY_AFTER_SUCCESS", "true", "read each application after its refresh succeeded"),
    with(
        "PARTNER_CENTER_ENDPOINT",
        "https://api.partner.microsoft.com",
        "Partner Center's ingestion API, to watch offers",
    ),
    without("PARTNER_CENTER_TENANT_ID", "tenant of the identity that watches offers"),
    without("PARTNER_CENTER_CLIENT_ID", "app registration that watches offers"),
    without("PARTNER_CENTER_CLIENT_SECRET", "its secret"),
    without("PARTNER_CENTER_CLIENT_CERTIFICATE", "in the place of the secret: certificate and RSA key, as PEM"),
    without(
        "PARTNER_CENTER_STATES",
        "what Partner Center's states mean where it is not as expected, as JSON: {\"State/Substate\": \"moving|failed|preview|live|byTarget\"}",
    ),
    with(
        "PARTNER_API_ENDPOINT",
        "https://api.partnercenter.microsoft.com",
        "Partner Center's API of customers and consents (GDAP)",
    ),
    with("GRAPH_ENDPOINT", "https://graph.microsoft.com", "Microsoft Graph (GDAP)"),
    without(
        "KEY_VAULT_URL",
        "key vault that holds the GDAP refresh token; absent means a file beside the store, outside Azure only",
    ),
    without("GDAP_CLIENT_ID", "app registration that customers consent to; absent means no GDAP"),
    without(
        "GDAP_CLIENT_CERTIFICATE",
        "certificate and RSA key of that app, PEM, by which it proves itself; else a secret or a managed identity does",
    ),
    with(
        "GDAP_TOKEN_ENDPOINT",
        "v2",
        "which of Entra's endpoints exchanges the refresh token: v2 (scope) or v1 (resource)",
    ),
    without("GDAP_SECRET_NAME", "name of the refresh token's secret in the key vault; absent means gdap-refresh-token"),
    without("CONSENT_STATE_KEY", "key that signs the state of consent links, at least 32 characters"),
    without("PUBLIC_URL", "address under which customers and Partner Center reach this service"),
    without(
        "JIT_PRINCIPAL_ID",
        "object id of our principal, as the plan lists it; absent means that no just-in-time access is asked for",
    ),
    without(
        "JIT_ROLE_ID",
        "role that just-in-time requests ask for; absent means the one that the plan lists for the principal",
    ),
    with(
        "JIT_RESOURCE_GROUP",
        "managed",
        "where just-in-time requests are filed: managed for the managed resource group, or a group's name",
    ),
    without("NOTIFY_URL", "webhook that is told about rollouts; treated as a secret"),
    without("NOTIFY_SECRET", "key that signs what is sent to NOTIFY_URL: whsec_ and base64, or any long text"),
    without("DASHBOARD_KEY", "key for the dashboard's login form; absent means that the dashboard is refused"),
    without("DASHBOARD_AUTH", "easyauth, where App Service authentication stands before the dashboard"),
    without(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OpenTelemetry collector (OTLP over HTTP) that spans and metrics are sent to; absent means that nothing is",
    ),
    without("OTEL_EXPORTER_OTLP_HEADERS", "headers for the collector, as name=value with commas between; a secret"),
    with("OTEL_SERVICE_NAME", "permafresh", "what this service is called at the collector"),
    without("OTEL_RESOURCE_ATTRIBUTES", "further attributes of what is sent, as name=value with commas between"),
    without(
        "LOCAL_FUNCTION_KEYS",
        "function keys of the embedded host, with commas between; absent means that one is made and kept in a file",
    ),
    without("LOCAL_QUEUE", "file of the embedded queue; absent means beside the store"),
    with("RETENTION_DAYS", "400", "how many days ended rollouts and the audit list are kept"),
    without("FUNCTIONS_CUSTOMHANDLER_PORT", "set by the Functions host: the port that the handler listens on"),
];

/// The default of the setting `name`.
pub fn default_of(name: &str) -> Option<&'static str> {
    ALL.iter().find(|setting| setting.name == name)?.default
}

/// The settings that a `function.json` names, with their defaults: the host resolves them itself, so they have to be
/// present in its settings even where they are the defaults (design §7).
pub fn named_by_functions() -> impl Iterator<Item = (&'static str, &'static str)> {
    ALL.iter().filter_map(|setting| {
        let named = setting.name.ends_with("_SCHEDULE") || setting.name.ends_with("_QUEUE");
        Some((setting.name, setting.default.filter(|_| named)?))
    })
}
