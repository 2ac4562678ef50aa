Feature: Third parties
  The agent keeps the address book: customers, prospects and suppliers.

  Scenario: A new customer gets the next customer code
    When the agent calls POST "thirdparties" with:
      | name        | Boulangerie du Fournil |
      | client      | 1                      |
      | code_client | auto                   |
      | zip         | 29000                  |
      | town        | Quimper                |
    Then the answer is 200
    And the answer is an id, kept as "customer"
    When the agent calls GET "thirdparties/{customer}"
    Then the answer contains:
      | name | Boulangerie du Fournil |
      | zip  | 29000                  |
      | town | Quimper                |
    And the answer's "code_client" contains "-00011"
    And the sandbox has 1 row in "llx_societe" where:
      | rowid            | {customer}             |
      | nom              | Boulangerie du Fournil |
      | client           | 1                      |
      | code_fournisseur | NULL                   |

  Scenario: A customer moves
    When the agent calls PUT "thirdparties/1" with:
      | address | 3, rue de Siam |
      | zip     | 29200          |
    Then the answer is 200
    And the answer contains:
      | name    | Café de la Gare |
      | address | 3, rue de Siam  |
      | town    | Brest           |

  Scenario: A third party without a name is refused
    When the agent calls POST "thirdparties" with:
      | town | Quimper |
    Then the answer is 400
    And the answer's "error.message" contains "name"
    And the sandbox has 12 rows in "llx_societe"

  Scenario: A customer with invoices stays
    When the agent calls DELETE "thirdparties/1"
    Then the answer is 409
    And the sandbox has 1 row in "llx_societe" where:
      | nom | Café de la Gare |

  Scenario: A name comes back as it was written
    When the agent calls POST "thirdparties" with:
      | name | L'Épicerie « 東京 » & Fils |
    Then the answer is an id, kept as "shop"
    When the agent calls GET "thirdparties/{shop}"
    Then the answer's "name" is "L'Épicerie « 東京 » & Fils"
