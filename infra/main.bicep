// Permafresh in Azure: a resource group, and in it everything that resources.bicep names.
// For `azd up` and `az deployment sub create`. Who may not create resource groups deploys resources.bicep into one.
targetScope = 'subscription'

@minLength(1)
@maxLength(40)
@description('Name of this installation; names of resources are made from it.')
param environmentName string

@minLength(1)
@description('Region of everything. It has to offer Flex Consumption: az functionapp list-flexconsumption-locations')
param location string

@description('Resource group to create or to go on with; made from the name of the installation if absent.')
param resourceGroupName string = ''

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

var tags = { 'azd-env-name': environmentName }

resource group 'Microsoft.Resources/resourceGroups@2024-03-01' = {
  name: empty(resourceGroupName) ? 'rg-${environmentName}' : resourceGroupName
  location: location
  tags: tags
}

module permafresh 'resources.bicep' = {
  name: 'permafresh'
  scope: group
  params: {
    environmentName: environmentName
    location: location
    tags: tags
    principalId: principalId
    principalType: principalType
    mode: mode
    offers: offers
    secretSettings: secretSettings
    settings: settings
    instanceMemoryMB: instanceMemoryMB
    maximumInstanceCount: maximumInstanceCount
  }
}

@description('The resource group.')
output AZURE_RESOURCE_GROUP string = group.name

@description('The function app, as the commands of `az functionapp` want it.')
output FUNCTION_APP_NAME string = permafresh.outputs.FUNCTION_APP_NAME

@description('Where the HTTP API is.')
output PERMAFRESH_URL string = permafresh.outputs.PERMAFRESH_URL

@description('Notification endpoint for Partner Center, still without ?sig=, which is a secret.')
output NOTIFICATION_ENDPOINT string = permafresh.outputs.NOTIFICATION_ENDPOINT

@description('The key vault that holds the secret settings.')
output KEY_VAULT_NAME string = permafresh.outputs.KEY_VAULT_NAME

@description('Object id of the identity: the principal that offers have to authorize.')
output IDENTITY_PRINCIPAL_ID string = permafresh.outputs.IDENTITY_PRINCIPAL_ID

@description('Client id of the identity.')
output IDENTITY_CLIENT_ID string = permafresh.outputs.IDENTITY_CLIENT_ID
