// Every app setting. Those that a function.json names are written out even where they are the defaults, since the host
// looks them up itself; the rest is written out too, so that what runs can be read in one place. An empty value is absent.
//
// Left out: what Azure sets (IDENTITY_ENDPOINT, IDENTITY_HEADER, FUNCTIONS_CUSTOMHANDLER_PORT), what only the embedded
// host reads (LOCAL_FUNCTION_KEYS, LOCAL_QUEUE), and connection strings, which would win over the identities.

@description('Client id of the identity that the app runs as.')
param identityClientId string

@description('Name of the storage account.')
param storageAccountName string

@description('Address of its blobs.')
param blobServiceUri string

@description('Address of its queues.')
param queueServiceUri string

@description('Address of its tables.')
param tableServiceUri string

@description('Host name of the Service Bus namespace.')
param serviceBusNamespace string

@description('Name of the queue that plans rollouts.')
param rolloutQueue string

@description('Name of the queue that refreshes deployments.')
param refreshQueue string

@description('Connection string of Application Insights.')
param telemetryConnectionString string

@description('Address of the key vault, with a slash at the end.')
param keyVaultUri string

@description('Names of the settings whose values are in the key vault, with commas between.')
param secretSettings string

@description('observe or act.')
param mode string

@description('Offers and plans to look after, as JSON.')
param offers string

@description('Address under which customers and Partner Center reach the service.')
param publicUrl string

@description('Further settings by name, which win over those here.')
param settings object

// The host makes public Azure's address from an account name, and does so even where addresses are given beside it: so
// one form or the other (azure-webjobs-sdk, StorageClientProvider).
var storageByName = { AzureWebJobsStorage__accountName: storageAccountName }
var storageByAddress = {
  AzureWebJobsStorage__blobServiceUri: blobServiceUri
  AzureWebJobsStorage__queueServiceUri: queueServiceUri
  AzureWebJobsStorage__tableServiceUri: tableServiceUri
}
var isPublicAzure = environment().name == 'AzureCloud'

var platform = {
  APPLICATIONINSIGHTS_CONNECTION_STRING: telemetryConnectionString
  APPLICATIONINSIGHTS_AUTHENTICATION_STRING: 'ClientId=${identityClientId};Authorization=AAD'
}

var connections = {
  STATE_STORE: 'tables'
  AzureWebJobsStorage__credential: 'managedidentity'
  AzureWebJobsStorage__clientId: identityClientId
  ServiceBusConnection__fullyQualifiedNamespace: serviceBusNamespace
  ServiceBusConnection__credential: 'managedidentity'
  ServiceBusConnection__clientId: identityClientId
  ROLLOUT_QUEUE: rolloutQueue
  REFRESH_QUEUE: refreshQueue
}

var schedules = {
  POLL_SCHEDULE: '*/15 * * * * *'
  BULK_REFRESH_SCHEDULE: '0 0 3 * * 0'
  WATCH_OFFERS_SCHEDULE: '0 */5 * * * *'
  SYNC_SCHEDULE: '0 30 2 * * *'
  RENEW_TOKENS_SCHEDULE: '0 0 4 * * *'
}

var azure = {
  ARM_ENDPOINT: environment().resourceManager
  // Absent means ARM_ENDPOINT.
  ARM_AUDIENCE: ''
  ARM_API_VERSION: '2019-07-01'
  ARM_MAX_CONCURRENCY: '64'
  AZURE_TENANT_ID: tenant().tenantId
  AZURE_CLIENT_ID: identityClientId
  AZURE_CLIENT_SECRET: ''
  // With an app registration as AZURE_CLIENT_ID (in `settings`) this identity stands for it.
  AZURE_MANAGED_IDENTITY_CLIENT_ID: identityClientId
  AZURE_ADDITIONALLY_ALLOWED_TENANTS: ''
  AZURE_AUTHORITY_HOST: environment().authentication.loginEndpoint
}

var rollouts = {
  MODE: mode
  OFFERS: offers
  NOTIFICATION_SIG: ''
  VERIFY_AFTER_SUCCESS: 'true'
  RETENTION_DAYS: '400'
  NOTIFY_URL: ''
  NOTIFY_SECRET: ''
  DASHBOARD_KEY: ''
  DASHBOARD_AUTH: ''
}

// Logs go to Application Insights through the host; these are for a collector beside it.
var collector = {
  OTEL_EXPORTER_OTLP_ENDPOINT: ''
  OTEL_EXPORTER_OTLP_HEADERS: ''
  OTEL_SERVICE_NAME: 'permafresh'
  OTEL_RESOURCE_ATTRIBUTES: ''
}

// environment().graph is the address of the older Azure AD Graph.
var graphEndpoints = {
  AzureCloud: 'https://graph.microsoft.com'
  AzureUSGovernment: 'https://graph.microsoft.us'
  AzureChinaCloud: 'https://microsoftgraph.chinacloudapi.cn'
}

var access = {
  PARTNER_CENTER_ENDPOINT: 'https://api.partner.microsoft.com'
  PARTNER_CENTER_TENANT_ID: ''
  PARTNER_CENTER_CLIENT_ID: ''
  PARTNER_CENTER_CLIENT_SECRET: ''
  PARTNER_CENTER_CLIENT_CERTIFICATE: ''
  PARTNER_CENTER_STATES: ''
  PARTNER_API_ENDPOINT: 'https://api.partnercenter.microsoft.com'
  GRAPH_ENDPOINT: graphEndpoints[environment().name]
  KEY_VAULT_URL: keyVaultUri
  GDAP_CLIENT_ID: ''
  GDAP_CLIENT_CERTIFICATE: ''
  GDAP_TOKEN_ENDPOINT: 'v2'
  GDAP_SECRET_NAME: ''
  CONSENT_STATE_KEY: ''
  PUBLIC_URL: publicUrl
  JIT_PRINCIPAL_ID: ''
  JIT_ROLE_ID: ''
  JIT_RESOURCE_GROUP: 'managed'
}

// Without a version in its address a reference follows the newest one: within a day by itself, at once after a restart. A
// secret that is not there leaves the text of the reference as the value, so only secrets that are there may be named.
var secretNames = empty(secretSettings) ? [] : split(replace(secretSettings, ' ', ''), ',')
var secrets = toObject(secretNames, name => name, name => '@Microsoft.KeyVault(SecretUri=${keyVaultUri}secrets/${replace(name, '_', '-')}/)')

var storage = isPublicAzure ? storageByName : storageByAddress

@description('Every app setting by name.')
output values object = union(platform, storage, connections, schedules, azure, rollouts, access, collector, settings, secrets)
