// Everything of one installation, in one resource group: what keeps state, what runs, and who may do what.

@minLength(1)
@maxLength(40)
@description('Name of this installation; names of resources are made from it.')
param environmentName string

@description('Region of everything.')
param location string = resourceGroup().location

@description('Tags on everything.')
param tags object = {}

@description('Object id of the person who deploys and sets secrets. Absent: nobody may write to the key vault.')
param principalId string = ''

@allowed(['User', 'Group', 'ServicePrincipal'])
@description('What principalId is.')
param principalType string = 'User'

@allowed(['observe', 'act'])
@description('observe plans and reports, and refreshes nothing. Change it to act once the report looks right.')
param mode string = 'observe'

@description('Offers and plans to look after, as JSON: the setting OFFERS.')
param offers string = loadTextContent('offers.json')

@description('Names of the settings whose values are in the key vault, with commas between, such as NOTIFICATION_SIG.')
param secretSettings string = ''

@description('Further settings by name. They win over the values that this deployment gives.')
param settings object = {}

@allowed([512, 2048, 4096])
@description('Memory of an instance, in MB: what is billed for while an instance works.')
param instanceMemoryMB int = 2048

@minValue(40)
@maxValue(1000)
@description('Most instances at once.')
param maximumInstanceCount int = 40

// Names of storage accounts, vaults, namespaces and sites are taken by everybody in Azure at once.
var token = uniqueString(subscription().id, resourceGroup().id, environmentName)
var appName = 'func-permafresh-${token}'
var rolloutQueue = 'rollouts'
var refreshQueue = 'refreshes'

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: 'id-permafresh-${token}'
  location: location
  tags: tags
}

module storage 'modules/storage.bicep' = {
  name: 'storage'
  params: {
    name: 'stpf${token}'
    location: location
    tags: tags
    identityPrincipalId: identity.properties.principalId
  }
}

module serviceBus 'modules/service-bus.bicep' = {
  name: 'service-bus'
  params: {
    name: 'sb-permafresh-${token}'
    location: location
    tags: tags
    queues: [rolloutQueue, refreshQueue]
    identityPrincipalId: identity.properties.principalId
  }
}

module telemetry 'modules/telemetry.bicep' = {
  name: 'telemetry'
  params: {
    name: 'permafresh-${token}'
    location: location
    tags: tags
    identityPrincipalId: identity.properties.principalId
  }
}

module keyVault 'modules/key-vault.bicep' = {
  name: 'key-vault'
  params: {
    name: 'kv-pf-${token}'
    location: location
    tags: tags
    identityPrincipalId: identity.properties.principalId
    writerPrincipalId: principalId
    writerPrincipalType: principalType
  }
}

module appSettings 'modules/app-settings.bicep' = {
  name: 'app-settings'
  params: {
    identityClientId: identity.properties.clientId
    storageAccountName: storage.outputs.name
    blobServiceUri: storage.outputs.blobServiceUri
    queueServiceUri: storage.outputs.queueServiceUri
    tableServiceUri: storage.outputs.tableServiceUri
    serviceBusNamespace: serviceBus.outputs.fullyQualifiedNamespace
    rolloutQueue: rolloutQueue
    refreshQueue: refreshQueue
    telemetryConnectionString: telemetry.outputs.connectionString
    keyVaultUri: keyVault.outputs.uri
    secretSettings: secretSettings
    mode: mode
    offers: offers
    publicUrl: 'https://${appName}.${hostSuffix}'
    settings: settings
  }
}

// A function app has the host name of its cloud: azurewebsites.net, azurewebsites.us, chinacloudsites.cn.
var hostSuffixes = {
  AzureCloud: 'azurewebsites.net'
  AzureUSGovernment: 'azurewebsites.us'
  AzureChinaCloud: 'chinacloudsites.cn'
}
var hostSuffix = hostSuffixes[environment().name]

module functionApp 'modules/function-app.bicep' = {
  name: 'function-app'
  params: {
    name: appName
    location: location
    tags: union(tags, { 'azd-service-name': 'permafresh' })
    identityId: identity.id
    deploymentContainerUri: storage.outputs.deploymentContainerUri
    appSettings: appSettings.outputs.values
    instanceMemoryMB: instanceMemoryMB
    maximumInstanceCount: maximumInstanceCount
  }
}

@description('The function app, as the commands of `az functionapp` want it.')
output FUNCTION_APP_NAME string = functionApp.outputs.name

@description('Where the HTTP API is.')
output PERMAFRESH_URL string = 'https://${functionApp.outputs.hostName}'

@description('Notification endpoint for Partner Center, still without ?sig=, which is a secret. Azure adds /resource to it.')
output NOTIFICATION_ENDPOINT string = 'https://${functionApp.outputs.hostName}/api/notification'

@description('The key vault that holds the secret settings.')
output KEY_VAULT_NAME string = keyVault.outputs.name

@description('Object id of the identity: the principal that offers have to authorize.')
output IDENTITY_PRINCIPAL_ID string = identity.properties.principalId

@description('Client id of the identity.')
output IDENTITY_CLIENT_ID string = identity.properties.clientId
