Feature: Isolation
  Each scenario begins where prod was: what another one did is gone, whichever of them comes first.

  Scenario Outline: The same new customer, each time for the first time
    Given the sandbox is as prod was
    Then the sandbox has no row in "llx_societe" where:
      | nom | Chez Gwenaëlle |
    When the agent calls POST "thirdparties" with:
      | name        | Chez Gwenaëlle |
      | client      | 1              |
      | code_client | auto           |
    Then the answer is an id, kept as "customer"
    And the sandbox has 1 row in "llx_societe" where:
      | nom | Chez Gwenaëlle |
    When the agent calls GET "thirdparties/{customer}"
    Then the answer contains:
      | id   | 13             |
      | name | Chez Gwenaëlle |

    Examples:
      | time   |
      | first  |
      | second |

  Scenario: One changes a customer's address
    When the agent calls PUT "thirdparties/2" with:
      | town | Fougères |
    Then the answer's "town" is "Fougères"

  Scenario: Another finds it where prod has it
    When the agent calls GET "thirdparties/2"
    Then the answer's "town" is "Rennes"
